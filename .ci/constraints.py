"""Print constraints.txt, with the torch that is installed in place of the pinned one.

pip would otherwise replace a torch that somebody chose for their hardware.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FAMILY = ("torch", "torchaudio", "torchvision")

pins = (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()
kept = {}
for name in FAMILY:
    try:
        kept[name] = version(name)
    except PackageNotFoundError:
        continue
if "torch" in kept:
    pins = [pin for pin in pins if pin.partition("==")[0] not in FAMILY]
    pins += [f"{name}=={installed}" for name, installed in kept.items()]
print("\n".join(pins))
