"""Train the output side in five ways, each for the same time; count the pictures that are right.

The first three ways differ in what the output projection learns from: the conditioning of the
caption (``align``), denoising the picture through the frozen decoder (``denoise``), or both. The
best of them is trained again with 1 and with 8 signal tokens instead of 4. Each is trained by
``nextgpt fit`` on captions and pictures alone, in front of a language model without adapter, from
nothing. Then captions of concepts on backgrounds that no training showed are drawn, once from
signal tokens and once from the caption handed to the decoder as text; the judge of ``nextgpt test``
says what the pictures show. What has ended is not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nextgpt import NextGPT
from nextgpt.data.conversations import world_manifest
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.evaluation.answers import Answers
from nextgpt.evaluation.judge import Judge
from nextgpt.evaluation.results import wilson_interval
from nextgpt.evaluation.rows.pictures import from_captions
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality

ROOT = Path(__file__).parents[1]
FOLDER = Path("runs/signals")
STAGE = """
model:
  init_args:
    start_from: null
    output: {folder}/model
    alignment_weight: {alignment}
    denoising_weight: {denoising}
    chain:
      num_signal_tokens: {{image: {tokens}, audio: 4, video: 4}}
data:
  init_args:
    train:
      - class_path: nextgpt.data.conversations.CaptionToMedium
        init_args: {{modalities: [image]}}
    validation:
      - class_path: nextgpt.data.conversations.CaptionToMedium
        init_args: {{split: held_out_pair, modalities: [image]}}
trainer:
  callbacks: []
  max_steps: {steps}
  val_check_interval: {steps}
  default_root_dir: {folder}
"""
TIMED_STEPS = 20


@dataclass(frozen=True)
class Way:
    """How one output side is trained."""

    name: str
    alignment: float
    denoising: float
    tokens: int = 4

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return FOLDER / f"{self.name}_{self.tokens}"

    def train(self, minutes: float) -> int:
        """Train it; returns the number of steps, which short runs before tell."""
        done = self.folder / "model" / "provenance.json"
        if not done.exists():
            timed = self.folder / "timed"
            self._run(timed, 1)  # What frozen parts compute is kept from here on.
            start = self._run(timed, 1)
            seconds = (self._run(timed, 1 + TIMED_STEPS) - start) / TIMED_STEPS
            self._run(self.folder, max(1, round(60 * minutes / seconds)))
        return int(json.loads(done.read_text())["steps"])

    def _run(self, folder: Path, steps: int) -> float:
        """Train so many steps; returns the seconds that took."""
        folder.mkdir(parents=True, exist_ok=True)
        overlay = folder / "stage.yaml"
        overlay.write_text(
            "stages:\n  decode_align:"
            + STAGE.format(
                folder=folder,
                alignment=self.alignment,
                denoising=self.denoising,
                tokens=self.tokens,
                steps=steps,
            ).replace("\n", "\n    ")
        )
        words = ["fit", "-c", str(ROOT / "configs" / "micro.yaml"), "-c", str(overlay)]
        words += ["--stage", "decode_align"]
        if (folder / "last.ckpt").exists():
            words += ["--ckpt_path", str(folder / "last.ckpt")]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nextgpt.cli", *words], check=True)
        return time.perf_counter() - started


def right(judge: Judge, answers: dict[str, Message], items: list[Item]) -> int:
    """How many pictures show what was asked for."""
    seen = judge.concepts_in([reply.images[0].pil for reply in answers.values()])
    return sum(name == item.concept for name, item in zip(seen, items, strict=True))


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, metavar="N", help="of each training")
    parser.add_argument("--pictures", type=int, default=200, metavar="N", help="to draw")
    options = parser.parse_args()
    items = [
        item
        for item in read_manifest(world_manifest())
        if item.split == "held_out_pair"
        and item.modality == Modality.IMAGE
        and item.attributes["second"] is None
    ]
    items = items[:: max(1, len(items) // options.pictures)][: options.pictures]
    captions = {item.id: item.caption for item in items}
    asked = {id_: Conversation().user(caption) for id_, caption in captions.items()}
    judge = Judge.load()
    table = Table("learns from", "signal tokens", "steps", "pictures right", "95% interval")

    def add(name: str, tokens: str, steps: str, answers: dict[str, Message]) -> int:
        number = right(judge, answers, items)
        low, high = wilson_interval(number, len(items))
        share = f"{number / len(items):.1%}"
        table.add_row(name, tokens, steps, share, f"{low:.0%} to {high:.0%}")
        Console().print(table)
        return number

    def measured(way: Way) -> int:
        steps = way.train(options.minutes)
        model = NextGPT.from_pretrained(way.folder / "model")
        answers = Answers(model, way.folder / "answers")
        # Training has put the signal tokens right behind the caption; they come here at the latest.
        writer = partial(model.write, modalities=["image"], max_new_tokens=8)
        drawn = answers.get("signals", asked, writer)
        return add(way.name, str(way.tokens), str(steps), drawn)

    ways = [Way("align", 1, 0), Way("denoise", 0, 1), Way("both", 1, 1)]
    best = max(ways, key=measured)
    for tokens in (1, 8):
        measured(Way(best.name, best.alignment, best.denoising, tokens))
    model = NextGPT.from_pretrained(best.folder / "model")
    drawn = Answers(model, best.folder / "answers").get(
        "text", captions, partial(from_captions, model.model.decoders[Modality.IMAGE])
    )
    add("the caption as text", "", "", drawn)


if __name__ == "__main__":
    main()
