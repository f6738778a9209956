"""The paper's parts at their true sizes, with random weights, on the processor, beside bare calls.

imagebind: ImageBind-huge in bfloat16 encodes a picture, a sound and a clip; bare is the package's
own forward pass on the same tensors. unet: a guided denoising step of Stable Diffusion 1.5, from
states of a 7B model through the output projection and the image decoder; bare is one call of the
U-Net. llm: a step of encode_align (forward, backward, optimizer) of Vicuna-7B in bfloat16, with
features as from the cache; bare is transformers' forward and backward to the input embeddings.

Both take turns. Seconds are those of computing, of all threads together, so that other programs
count less; ratios are those of the medians. A part is left out only where there is not enough
memory: 4, 6 and 19 GB.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from nextgpt.architectures import FOLDER
from nextgpt.batch import ChainBatch
from nextgpt.decoders import AudioDecoder, ImageDecoder, VideoDecoder
from nextgpt.decoders.components import component_class, without_weights
from nextgpt.encoders import ImageBindEncoder
from nextgpt.language_model import LanguageModel
from nextgpt.layout import Layout
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.projections import OutputProjection
from nextgpt.training.stage import Stage

VICUNA = FOLDER / "lmsys" / "vicuna-7b-v1.5"
DIFFUSION = FOLDER / "stable-diffusion-v1-5" / "stable-diffusion-v1-5"
AUDIO_DIFFUSION = FOLDER / "cvssp" / "audioldm-l-full"
VIDEO_DIFFUSION = FOLDER / "cerspense" / "zeroscope_v2_576w"
Row = tuple[str, float, float, str]
"""What was measured; seconds of ours and of the bare call; a remark."""


@contextmanager
def built_in_bfloat16() -> Iterator[None]:
    """Let weights be made in bfloat16, without a copy in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_turns(ours: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median seconds of each, of all threads; a round before those that count warms up."""
    seconds: dict[Callable[[], Any], list[float]] = {ours: [], bare: []}
    for _ in range(rounds + 1):
        for run in seconds:
            started = time.process_time()
            run()
            seconds[run].append(time.process_time() - started)
    ours_s, bare_s = (statistics.median(each[1:]) for each in seconds.values())
    return ours_s, bare_s


@torch.no_grad()
def imagebind(rounds: int) -> Iterator[Row]:
    """One medium of each kind, prepared; features as they go into the cache."""
    with built_in_bfloat16():
        encoder = ImageBindEncoder(None)
    rng = np.random.default_rng(0)
    media: list[Medium] = [
        Image(rng.integers(0, 256, (480, 640, 3), np.uint8)),
        Audio(rng.uniform(-0.5, 0.5, 5 * 16_000).astype(np.float32), 16_000),
        Video(rng.integers(0, 256, (40, 120, 160, 3), np.uint8), 8.0),
    ]
    for medium in media:
        batch = encoder.preprocess(medium.modality, medium).unsqueeze(0)
        key = "audio" if medium.modality == Modality.AUDIO else "vision"
        inputs = {key: batch.bfloat16()}
        ours_s, bare_s = in_turns(
            partial(encoder.encode, medium.modality, batch), partial(encoder.model, inputs), rounds
        )
        yield f"ImageBind-huge, one {medium.modality}", ours_s, bare_s, ""


class _StepDone(Exception):  # noqa: N818  no error
    """Ends a decoding before the autoencoder's turn."""


@torch.no_grad()
def unet(rounds: int) -> Iterator[Row]:
    """One step with guidance: both rows of the batch, with and without conditioning."""
    import diffusers

    index = json.loads((DIFFUSION / "model_index.json").read_text())
    with built_in_bfloat16():
        models = {
            name: without_weights(component_class(*index[name]), DIFFUSION / name).eval()
            for name in ("unet", "vae")
        }
    decoder = ImageDecoder(str(DIFFUSION), guidance_scale=7.5, dtype="bfloat16")
    scheduler = component_class(*index["scheduler"]).from_pretrained(DIFFUSION / "scheduler")
    decoder._pipeline = diffusers.StableDiffusionPipeline(
        **models,
        text_encoder=None,
        tokenizer=None,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    decoder._pipeline.set_progress_bar_config(disable=True)
    length, width = decoder.conditioning_shape
    decoder._unconditional = torch.randn(1, length, width)
    projection = OutputProjection(4096, 4, (length, width)).eval()
    states = torch.randn(1, 4, 4096)

    def stop(*_: Any) -> None:
        raise _StepDone

    def ours() -> None:
        conditioning = projection(states, states)
        try:
            decoder.decode(conditioning, torch.Generator().manual_seed(0), 1, on_step=stop)
        except _StepDone:
            return

    latents = torch.randn(2, *decoder.latent_shape(), dtype=torch.bfloat16)
    embeds = torch.randn(2, length, width, dtype=torch.bfloat16)
    ours_s, bare_s = in_turns(ours, lambda: models["unet"](latents, 1, embeds), rounds)
    yield "Stable Diffusion 1.5, one guided step", ours_s, bare_s, ""


def language_model(layers: int | None) -> LanguageModel:
    """Vicuna-7B in bfloat16, its weights drawn in place."""
    config = json.loads((VICUNA / "config.json").read_text())
    config["num_hidden_layers"] = layers or config["num_hidden_layers"]
    with TemporaryDirectory() as folder, torch.device("meta"):
        (Path(folder) / "config.json").write_text(json.dumps(config))
        model = LanguageModel(folder, "vicuna_v1", 512, dtype="bfloat16")
    llm = model.llm.to_empty(device="cpu")
    for parameter in llm.parameters():
        parameter.data.normal_(std=0.02) if parameter.ndim > 1 else parameter.data.fill_(1)
    # NOTE: what it holds are no weights, but the frequencies of positions.
    rotary = llm.get_decoder().rotary_emb
    llm.get_decoder().rotary_emb = type(rotary)(llm.config)
    return model


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Watch this process; the list gets the GB at most held meanwhile."""
    process, done, peak = psutil.Process(), threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss / 1e9)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def llm(rounds: int, layers: int | None, length: int) -> Iterator[Row]:
    """A step of encode_align with one picture and as many tokens as ``length``."""
    model = language_model(layers)
    with torch.device("meta"):
        encoder = ImageBindEncoder(None)  # Its features are in the cache.
    chain = NextGPTModel(
        model,
        encoder,
        {
            "image": ImageDecoder(str(DIFFUSION)),
            "audio": AudioDecoder(str(AUDIO_DIFFUSION)),
            "video": VideoDecoder(str(VIDEO_DIFFUSION)),
        },
        {"image": 4, "audio": 8, "video": 24},
    )
    stage = Stage(chain, ["input_projection"], alignment="norm")
    trainer = lightning.Trainer(accelerator="cpu", devices=1, logger=False)
    trainer.strategy.connect(stage)
    stage.trainer = trainer
    optimizer = torch.optim.AdamW(chain.input_projection.parameters(), lr=4e-4)
    tokens = torch.randint(0, model.vocabulary_size, (1, length))
    batch = ChainBatch(
        tokens,
        torch.ones_like(tokens),
        tokens,
        slots={Modality.IMAGE: torch.tensor([[0, 5]])},
        layouts={Modality.IMAGE: [Layout()]},
        texts={Modality.IMAGE: [""]},
        features={Modality.IMAGE: torch.randn(1, *encoder.feature_shape(Modality.IMAGE))},
    )
    embeds = model.embed(tokens).detach().requires_grad_()

    def ours() -> None:
        total, _ = stage._total(stage._losses(batch))
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    def bare() -> None:
        model.llm(inputs_embeds=embeds, labels=tokens, use_cache=False).loss.backward()
        embeds.grad = None

    for run in (ours, bare):
        run()  # Warms up, so that neither peak is that of the first allocations.
    peaks = []
    for run in (ours, bare):
        with peak_memory() as peak:
            run()
        peaks += peak
    ours_s, bare_s = in_turns(ours, bare, rounds)
    size = sum(p.numel() for p in model.llm.parameters())
    remark = f"peak {peaks[0]:.2f} GB, bare {peaks[1]:.2f} GB"
    yield f"{size / 1e9:.2f} B parameters, a step of {length} tokens", ours_s, bare_s, remark


def main() -> None:
    """Measure what there is memory for, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", choices=("imagebind", "unet", "llm"), help="one part (default: all)")
    add("--rounds", type=int, default=3, metavar="N", help="that count")
    add("--layers", type=int, metavar="N", help="of the language model (default: 32, all)")
    add("--length", type=int, default=512, metavar="TOKENS", help="of its conversation")
    options = parser.parse_args()
    layers_gb = 0.405 * (options.layers or 32)  # 202 M parameters each, and two tables.
    parts: dict[str, tuple[float, Callable[[], Iterator[Row]]]] = {
        "imagebind": (4.0, lambda: imagebind(options.rounds)),
        "unet": (6.0, lambda: unet(options.rounds)),
        "llm": (6.0 + layers_gb, lambda: llm(options.rounds, options.layers, options.length)),
    }
    table = Table("part", "ours", "bare", "ratio", "")
    for name in [options.only] if options.only else parts:
        needed_gb, measured = parts[name]
        free_gb = psutil.virtual_memory().available / 1e9
        if free_gb < needed_gb:
            print(f"{name} is left out: it takes {needed_gb:.0f} GB, {free_gb:.1f} GB are free")
            continue
        for what, ours_s, bare_s, remark in measured():
            table.add_row(
                what, f"{ours_s:.2f} s", f"{bare_s:.2f} s", f"{ours_s / bare_s:.2f}", remark
            )
    if table.row_count:
        Console().print(table)


if __name__ == "__main__":
    main()
