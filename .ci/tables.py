"""Write a measured table into documents, between the comments that mark its place.

usage: tables.py TABLE DOCUMENT...
"""

import sys
from pathlib import Path

START, END = "<!-- results -->", "<!-- end of results -->"

table, *documents = map(Path, sys.argv[1:])
for document in documents:
    text = document.read_text(encoding="utf-8")
    if START not in text or END not in text.partition(START)[2]:
        sys.exit(f"{document}: no {START} followed by {END}")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    written = table.read_text(encoding="utf-8").strip()
    document.write_text(f"{before}{START}\n\n{written}\n\n{END}{after}", encoding="utf-8")
