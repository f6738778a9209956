"""Records of every format, as they are in the original files and as they might be."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

MEDIA = {"image": "jpg", "video": "mp4", "audio": "wav"}
TEXTS = (
    "What is this?",
    "a dog",
    "",
    " spaces around ",
    "breaks\nand\ttabs\u2028",
    'über "quotes" \\ 犬 🐕',
    "1 < 2 > 0 <b>bold</b>",
    "<Picture>no tag</Picture>",
)
UNKNOWN = {
    "source_data": {"youtube_id": "x", "start": 3},
    "score": 0.5,
    "nothing": None,
    "flag": True,
    "many": [1, "two", [3.0]],
}

# As documented, with everything that is named.
DOCUMENTED: dict[str, dict[str, Any]] = {
    "cc3m": {"caption": "a dog", "id": "0001", "image_name": "0001.jpg"},
    "webvid": {"caption": "a dog runs", "id": 12949985, "video_name": "00169473.mp4"},
    "audiocap": {"audio_id": 91139, "audio_name": "91139.wav", "caption": "water pours"},
    "comprehension": {
        "input_image": "0001.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is the image about?"},
            {"from": "gpt", "value": "a dog"},
        ],
    },
    "generation": {
        "output_audio": "106158.wav",
        "audio_captions": "a train runs",
        "audio_caption_embeddings": "106158.wav.npy",
        "conversations": [
            {"from": "human", "value": "Let me hear a train"},
            {"from": "gpt", "value": "Sure thing! <audio>"},
        ],
    },
    "t2x": {
        "mm_name": "0001.jpg",
        "conversation": [
            {"from": "human", "value": "I would like a dog", "input_modality": "text"},
            {
                "from": "gpt",
                "value": "Here it is.",
                "caption": "a dog",
                "output_modality": "image",
            },
        ],
    },
    "unified": {
        "image_name": "0001.jpg",
        "output_modality": "text",
        "conversation": [
            {"from": "human", "value": "What is it?", "input_modality": "image"},
            {"from": "gpt", "value": "a dog", "caption": "", "output_modality": "text"},
        ],
    },
    "instruction": {
        "audio_captions": ["rain"],
        "audio_caption_embeddings": ["34706.wav.npy"],
        "conversations": [
            {"from": "human", "value": "I need rain", "input_modality": "text"},
            {
                "from": "gpt",
                "value": "Here it is. <audio>",
                "caption": "rain",
                "output_modality": "audio",
            },
        ],
    },
    "mosit": {
        "image_list": [{"image_name": "mosit_i_00.jpg", "caption": "a tent"}],
        "video_list": [],
        "audio_list": [{"audio_name": "mosit_a_00.wav", "caption": "an owl"}],
        "conversation": [
            {"from": "human", "value": "I go camping."},
            {"from": "gpt", "value": "<Image>mosit_i_00.jpg</Image> Listen:"},
            {"from": "human", "value": "What is <Audio>mosit_a_00.wav</Audio>?"},
            {"from": "gpt", "value": "An owl."},
        ],
    },
    "mosit-instruction": {
        "image_captions": ["a tent", "a fire"],
        "image_caption_embeddings": ["mosit_i_00.jpg.npy", "mosit_i_01.jpg.npy"],
        "conversations": [
            {"from": "human", "value": "I go camping."},
            {"from": "gpt", "value": "<image> or <image>?"},
        ],
    },
    "llava": {
        "id": "000000033471",
        "image": "coco/000000033471.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat are the colors?"},
            {"from": "gpt", "value": "White and red."},
        ],
    },
}


class Writer:
    """Writes random records."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.count = 0

    def maybe(self, probability: float = 0.3) -> bool:
        return self.rng.random() < probability

    def text(self) -> str:
        return self.rng.choice(TEXTS)

    def unknown(self) -> dict[str, Any]:
        return {key: value for key, value in UNKNOWN.items() if self.maybe(0.15)}

    def name(self, modality: str) -> str:
        self.count += 1
        folder = "sub folder/ü/" if self.maybe() else ""
        return f"{folder}{self.count:04d}.{MEDIA[modality]}"

    def one_or_list(self, values: list[Any]) -> Any:
        return values[0] if len(values) == 1 and self.maybe(0.5) else values

    def pair(self, modality: str, id_key: str, number: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "caption": self.text() or "a caption",
            f"{modality}_name": self.name(modality),
            **self.unknown(),
        }
        if self.maybe(0.9):
            value = self.rng.randrange(10**6)
            record[id_key] = value if number != self.maybe(0.1) else f"{value:09d}"
        return record

    def placed(self, shown: str, known_modalities: bool) -> dict[str, Any]:
        """Turns with placeholders, and lists of what they stand for."""
        lists: dict[str, list[str]] = {}
        turns = []
        for _ in range(self.rng.randint(1, 3)):
            for speaker in ("human", "gpt"):
                value = self.text()
                turn: dict[str, Any] = {"from": speaker, **self.unknown()}
                for modality in MEDIA:
                    for _ in range(self.rng.choice((0, 0, 0, 1, 2))):
                        value += f"<{modality}>" + self.text()
                        key = shown.format(modality) if speaker == "human" else modality + "!"
                        lists.setdefault(key, []).append(self.name(modality))
                if known_modalities and self.maybe(0.8):
                    direction = "input" if speaker == "human" else "output"
                    turn[f"{direction}_modality"] = self.rng.choice([*MEDIA, "text"])
                if known_modalities and self.maybe():
                    turn["caption"] = self.text()
                turns.append({**turn, "value": value})
        record: dict[str, Any] = {"conversations": turns, **self.unknown()}
        for key, names in lists.items():
            if not key.endswith("!"):
                record[key] = self.one_or_list(names)
                continue
            modality = key[:-1]
            columns = {
                f"output_{modality}": names,
                f"{modality}_captions": [self.text() for _ in names],
                f"{modality}_caption_embeddings": [f"{name}.npy" for name in names],
            }
            kept = {k: self.one_or_list(v) for k, v in columns.items() if self.maybe(0.7)}
            if not kept.keys() & {f"output_{modality}", f"{modality}_caption_embeddings"}:
                kept[f"output_{modality}"] = names
            record |= kept
        return record

    def one_medium(self, key: str, tells_answer: bool) -> dict[str, Any]:
        """Turns that tell their modality, and one medium at most."""
        modality = self.rng.choice([*MEDIA, "text"])
        by_user = self.maybe(0.5)
        record = {key: "00000000000" if modality == "text" else self.name(modality)}
        turns = []
        for number in range(self.rng.randint(1, 3)):
            here = modality if number == 0 or self.maybe() else "text"
            said = {
                "from": "gpt",
                "value": self.text(),
                "output_modality": "text" if by_user else here,
                "caption": "" if by_user or here == "text" else self.text(),
            }
            if self.maybe(0.2):
                del said["caption"]
            asked = {
                "from": "human",
                "value": self.text(),
                "input_modality": here if by_user else "text",
            }
            turns += [{**asked, **self.unknown()}, {**said, **self.unknown()}]
        if tells_answer:
            record["output_modality"] = "text" if by_user else modality
        return {**record, "conversation": turns, **self.unknown()}

    def tagged(self) -> dict[str, Any]:
        """Turns with tags that call media of lists, and some that call none."""
        record: dict[str, Any] = {}
        tags = ["<Image>a caption</Image>"]
        for modality in MEDIA:
            entries = [
                {
                    f"{modality}_name": self.name(modality),
                    "caption": self.text(),
                    "data_source": "mosit",
                    **self.unknown(),
                }
                for _ in range(self.rng.randint(0, 3))
            ]
            record[f"{modality}_list"] = entries
            tag = modality.capitalize()
            tags += [f"<{tag}>{entry[f'{modality}_name']}</{tag}>" for entry in entries]
        turns = [
            {
                "from": speaker,
                "value": self.text() + self.rng.choice(tags) + self.text() + self.rng.choice(tags),
                **self.unknown(),
            }
            for speaker in ("human", "gpt", "human", "gpt")
        ]
        return {**record, "conversation": turns, **self.unknown()}


WRITTEN: dict[str, Callable[[Writer], dict[str, Any]]] = {
    "cc3m": lambda w: w.pair("image", "id", number=False),
    "webvid": lambda w: w.pair("video", "id", number=True),
    "audiocap": lambda w: w.pair("audio", "audio_id", number=True),
    "comprehension": lambda w: w.placed("input_{}", known_modalities=False),
    "generation": lambda w: w.placed("input_{}", known_modalities=False),
    "t2x": lambda w: w.one_medium("mm_name", tells_answer=False),
    "unified": lambda w: w.one_medium("image_name", tells_answer=True),
    "instruction": lambda w: w.placed("input_{}", known_modalities=True),
    "mosit": lambda w: w.tagged(),
    "mosit-instruction": lambda w: w.placed("input_{}", known_modalities=False),
    "llava": lambda w: {"id": w.text() or "1", **w.placed("{}", known_modalities=False)},
}
