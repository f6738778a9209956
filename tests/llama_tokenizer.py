"""A tokenizer like Llama's, built here: the published ids of some pieces, fillers at all others."""

from __future__ import annotations

from typing import Any

VOCABULARY_SIZE = 32_000

# In the order in which they are merged, which is that of the ids.
PIECES = {
    "▁I": 306,
    "▁A": 319,
    "▁you": 366,
    "▁can": 508,
    "▁###": 835,
    "▁how": 920,
    "ER": 1001,
    "▁help": 1371,
    "SS": 1799,
    "##": 2277,
    "▁US": 3148,
    "▁Ass": 4007,
    "▁Hi": 6324,
    "IST": 9047,
    "▁Human": 12968,
    "ANT": 13566,
    "▁Hello": 15043,
    "istant": 22137,
}
CHARACTERS = {"▁": 29871, ".": 29889, ",": 29892, ":": 29901, "#": 29937, "?": 29973}


def llama_tokenizer(legacy: bool) -> Any:
    """Build it as transformers does from Llama's own files.

    Args:
        legacy: Whether a space is put before every piece of text between special tokens (LLaMA 1)
            or only before the first (Llama 2).
    """
    from transformers import LlamaTokenizer

    ids = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    ids |= PIECES | CHARACTERS
    merges = [(piece[:end], piece[end]) for piece in PIECES for end in range(1, len(piece))]
    parts = {part for left, right in merges for part in (left, right, left + right)}
    unnamed = sorted(parts - set(ids))
    taken = set(ids.values())
    free = [number for number in range(VOCABULARY_SIZE) if number not in taken]
    unnamed += [f"<filler {number}>" for number in free[len(unnamed) :]]
    ids |= dict(zip(unnamed, free, strict=True))
    assert sorted(ids.values()) == list(range(VOCABULARY_SIZE))
    return LlamaTokenizer(vocab=ids, merges=list(dict.fromkeys(merges)), legacy=legacy)
