"""Formats of other projects' data: a schema of records in a container each."""

from __future__ import annotations

from dataclasses import dataclass

from nextgpt.data.formats.containers import Container, JsonList, Table
from nextgpt.data.formats.huggingface import SavedDataset
from nextgpt.data.formats.modality_turns import ModalityTurns
from nextgpt.data.formats.pairs import Pairs
from nextgpt.data.formats.placeholders import Placeholders
from nextgpt.data.formats.schema import Folders, Schema
from nextgpt.data.formats.shards import FILE, Shards
from nextgpt.data.formats.tags import Tags
from nextgpt.modality import Modality

__all__ = ["FORMATS", "Folders", "Format"]


@dataclass(frozen=True)
class Format:
    """One way in which data lie on disk."""

    schema: Schema
    container: Container
    describes: str
    """For lists of formats."""


_LIST, _TABLE, _SHARDS, _SAVED = JsonList(), Table(), Shards(), SavedDataset()
_LLAVA = Placeholders("{}", id="id", names_answers=False)
_SHARD_FILE = f"{{{FILE}}}"

FORMATS: dict[str, Format] = {
    "cc3m": Format(Pairs(Modality.IMAGE, "{image_name}"), _LIST, "NExT-GPT cc3m.json"),
    "webvid": Format(
        Pairs(Modality.VIDEO, "{video_name}", number_ids=True), _LIST, "NExT-GPT webvid.json"
    ),
    "audiocap": Format(
        Pairs(Modality.AUDIO, "{audio_name}", id="audio_id", number_ids=True),
        _LIST,
        "NExT-GPT audiocap.json",
    ),
    "comprehension": Format(Placeholders(), _LIST, "NExT-GPT *_comprehension.json"),
    "generation": Format(Placeholders(), _LIST, "NExT-GPT *_generation.json"),
    "t2x": Format(ModalityTurns("mm_name"), _LIST, "NExT-GPT V1 *_t2x.json"),
    "unified": Format(
        ModalityTurns("image_name", tells_answer=True),
        _LIST,
        "NExT-GPT V1 LLaVA and Alpaca in one form",
    ),
    "instruction": Format(
        Placeholders(names_answers=False, as_lists=True, tells_modalities=True),
        _LIST,
        "NExT-GPT {image,video,audio}_instruction_tuning.json",
    ),
    "mosit": Format(Tags(), _LIST, "NExT-GPT mosit.json, with tags in the text"),
    "mosit-instruction": Format(
        Placeholders(names_answers=False, as_lists=True),
        _LIST,
        "NExT-GPT mosit_instruction_tuning.json",
    ),
    "llava": Format(_LLAVA, _LIST, "LLaVA-Instruct, ShareGPT: turns and an image"),
    "cc3m-csv": Format(Pairs(Modality.IMAGE, "{image_name}"), _TABLE, "table of pictures"),
    "webvid-csv": Format(
        Pairs(Modality.VIDEO, "{page_dir}/{videoid}.mp4", caption="name", id="videoid"),
        _TABLE,
        "WebVid's own table",
    ),
    "audiocaps-csv": Format(
        Pairs(Modality.AUDIO, "{audiocap_id}.wav", id="audiocap_id"),
        _TABLE,
        "AudioCaps' own table",
    ),
    "cc3m-shards": Format(
        Pairs(Modality.IMAGE, _SHARD_FILE, id="key"), _SHARDS, "webdataset shards of pictures"
    ),
    "webvid-shards": Format(
        Pairs(Modality.VIDEO, _SHARD_FILE, id="key"), _SHARDS, "webdataset shards of videos"
    ),
    **{
        f"datasets-{modality}": Format(
            Pairs(modality, f"{{{modality}}}"),
            _SAVED,
            f"saved by Hugging Face datasets: {modality} and caption",
        )
        for modality in (Modality.IMAGE, Modality.AUDIO, Modality.VIDEO)
    },
    "datasets-llava": Format(_LLAVA, _SAVED, "saved by Hugging Face datasets: turns and an image"),
}
