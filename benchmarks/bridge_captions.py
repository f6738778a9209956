"""Exchange the bridge of the finished micro model; count what it sees through each.

Every system learns from as many captioned drawings, by the commands that a user types: in
`represent`, where it has that, and in `encode_align`, which starts from the shipped model with a
bridge that knows nothing. Then it describes held-out drawings; right is a caption that names what
is drawn and nothing else. What has ended is not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from nextgpt import NextGPT
from nextgpt.configuration import read_config
from nextgpt.data.conversations import medium_of, world_manifest
from nextgpt.data.manifest import read_manifest
from nextgpt.evaluation.metrics import concepts_named
from nextgpt.evaluation.results import wilson_interval
from nextgpt.messages import Conversation

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "bridges" / "micro"
EXCHANGE = ["--model.init_args.start_from", str(ROOT / "checkpoints" / "micro")]
EXCHANGE += ["--model.init_args.new_bridge", "true"]
"""The shipped model, but for its bridge."""
BATCH_SIZE = 16
SYSTEMS = ("nextgpt", "llava", "llava15", "llava_next", "blip2", "instructblip", "flamingo")


def trained(name: str, steps: int) -> tuple[Path, float]:
    """Train a system; its checkpoint, and the seconds that took."""
    file = FOLDER / f"{name}.yaml"
    stages = read_config(file)["stages"]
    started = time.perf_counter()
    for stage in [stage for stage in ("represent", "encode_align") if stage in stages]:
        output = Path(stages[stage]["model"]["init_args"]["output"])
        if output.exists():
            continue
        words = ["fit", "-c", str(file), "--stage", stage, "--trainer.max_steps", str(steps)]
        words += ["--trainer.val_check_interval", str(steps)]
        words += EXCHANGE if stage == "encode_align" else []
        # More pictures than are seen need not be encoded.
        source = "nextgpt.data.conversations.MediumToCaption"
        arguments = {"modalities": ["image"], "num_items": steps * BATCH_SIZE}
        train = [{"class_path": source, "init_args": arguments}]
        words += ["--data.init_args.train", json.dumps(train)]
        words += ["--data.init_args.batch_size", str(BATCH_SIZE)]
        words += ["--trainer.accumulate_grad_batches", "1"]
        subprocess.run([sys.executable, "-m", "nextgpt.cli", *words], check=True)
    return output, time.perf_counter() - started


def right(model: NextGPT, num_drawings: int) -> int:
    """How many held-out drawings are described by their concept alone."""
    manifest = world_manifest()
    items = [
        item
        for item in read_manifest(manifest)
        if item.split == "held_out_drawing" and item.modality == "image"
    ]
    count = 0
    for item in tqdm(items[:: max(1, len(items) // num_drawings)][:num_drawings]):
        shown = Conversation().user(medium_of(item, manifest))
        reply = model.chat(shown, modalities=[], max_new_tokens=24)
        count += concepts_named(reply.text) == {item.concept}
    return count


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("systems", nargs="*", default=SYSTEMS, help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="of 16 drawings each")
    parser.add_argument("--drawings", type=int, default=160, metavar="N", help="to describe")
    options = parser.parse_args()
    table = Table("system", "tokens a picture", "named right", "95% interval", "seconds")
    for name in options.systems:
        folder, seconds = trained(name, options.steps)
        model = NextGPT.from_pretrained(folder)
        number = right(model, options.drawings)
        low, high = wilson_interval(number, options.drawings)
        table.add_row(
            name,
            str(model.model.num_tokens("image", (64, 64))),
            f"{number / options.drawings:.1%}",
            f"{low:.0%} to {high:.0%}",
            f"{seconds:.0f}",
        )
        Console().print(table)


if __name__ == "__main__":
    main()
