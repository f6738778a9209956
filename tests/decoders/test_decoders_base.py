"""What holds for every decoder."""

import logging
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from decoding import decode_one, edit_json, seeded, values
from safetensors.torch import load_file, save_file

from nextgpt.decoders import AudioDecoder, Decoder, ImageDecoder, VideoDecoder
from nextgpt.decoders.loading import Solver

CAPTIONS = ["a dog on a blue background", "the sound of a violin", ""]
# Measured worst case of batch against one by one, 60 media of each kind at 2 and 8 steps on CPU:
# pictures and clips 1/255 (a rounding that flips), sound 2.2e-6 at a peak of 0.2.
BATCH_TOLERANCE = {"image": 1.01 / 255, "video": 1.01 / 255, "audio": 1e-5}


def reference_pipeline(directory: Path) -> Any:
    """The pipeline as diffusers loads it, without nextgpt."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(directory)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_conditioning_shape_needs_no_weights(own_directory: Path, decoder: Decoder) -> None:
    for weights in own_directory.rglob("*.safetensors"):
        weights.unlink()
    bare = type(decoder)(str(own_directory))
    assert bare.conditioning_shape == ((1, 32) if decoder.modality == "audio" else (8, 32))


def test_encode_text_has_the_documented_shape(decoder: Decoder) -> None:
    target = decoder.encode_text(CAPTIONS)
    assert target.shape == (len(CAPTIONS), *decoder.conditioning_shape)
    assert target.dtype == torch.float32
    assert not target.requires_grad
    assert not torch.equal(target[0], target[1])


def test_encode_text_loads_the_text_encoder_alone(own_directory: Path, decoder: Decoder) -> None:
    shutil.rmtree(own_directory / "unet")
    shutil.rmtree(own_directory / "vae")
    alone = type(decoder)(str(own_directory))
    assert torch.equal(alone.encode_text(CAPTIONS), decoder.encode_text(CAPTIONS))


def test_encode_text_equals_the_encoding_of_diffusers(directory: Path, decoder: Decoder) -> None:
    pipeline = reference_pipeline(directory)
    with torch.no_grad():
        if decoder.modality == "audio":
            expected = pipeline._encode_prompt(CAPTIONS, "cpu", 1, False)[:, None]
        else:
            expected = pipeline.encode_prompt(CAPTIONS, "cpu", 1, False)[0]
    assert torch.equal(decoder.encode_text(CAPTIONS), expected)


def test_encode_text_ignores_autocast(decoder: Decoder) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = decoder.encode_text(CAPTIONS)
    assert torch.equal(inside, decoder.encode_text(CAPTIONS))


def test_loading_and_decoding_are_silent_also_for_a_caption_too_long(
    directory: Path,
    decoder: Decoder,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    records: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[method-assign]
    # These two do not pass their records on to the root logger, where caplog listens.
    libraries = [logging.getLogger("diffusers"), logging.getLogger("transformers")]
    for library in libraries:
        library.addHandler(listener)
    try:
        fresh = type(decoder)(str(directory), num_inference_steps=2)
        fresh.decode(fresh.encode_text(["a dog and " * 1000]), seeded(0))
    finally:
        for library in libraries:
            library.removeHandler(listener)
    assert (records, list(recwarn), *capfd.readouterr()) == ([], [], "", "")


@pytest.mark.parametrize("solver", ["pipeline", "multistep"])
def test_decode_of_a_caption_equals_diffusers_on_the_prompt(
    directory: Path, decoder: Decoder, solver: Solver
) -> None:
    pipeline = reference_pipeline(directory)
    if solver == "multistep":
        scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        pipeline.scheduler = scheduler
    decoder = type(decoder)(str(directory), solver=solver)
    size: dict[str, Any] = {"image": {}, "video": {"num_frames": 8}}.get(
        decoder.modality, {"audio_length_in_s": 2.56}
    )
    output = pipeline(
        prompt=CAPTIONS[:2],
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=seeded(1, 2),
        **({"output_type": "np"} | size),
    )
    expected = next(iter(output.values()))
    media = decoder.decode(
        decoder.encode_text(CAPTIONS[:2]), seeded(1, 2), num_inference_steps=3, guidance_scale=4.0
    )
    # Half a level of rounding to 8 bits. Sound: measured 1.2e-6 at a peak of 0.2, as AudioLDM pads
    # the empty prompt to another length.
    tolerance = 1e-5 if decoder.modality == "audio" else 0.501 / 255
    for medium, reference in zip(media, expected, strict=True):
        np.testing.assert_allclose(values(medium).squeeze(), reference, rtol=0, atol=tolerance)


def test_the_multistep_solver_comes_nearer_to_the_end_in_as_many_steps(
    directory: Path, decoder: Decoder
) -> None:
    multistep = type(decoder)(str(directory), solver="multistep")
    end = decode_one(decoder, "a dog", seed=7, num_inference_steps=100)
    missed = {
        solver: np.abs(decode_one(of, "a dog", seed=7, num_inference_steps=6) - end).mean()
        for solver, of in {"pipeline": decoder, "multistep": multistep}.items()
    }
    assert missed["multistep"] < missed["pipeline"] / 1.5, missed


def test_a_batch_equals_one_by_one(decoder: Decoder) -> None:
    conditioning = decoder.encode_text(CAPTIONS)
    batch = decoder.decode(conditioning, seeded(1, 2, 3))
    for index, medium in enumerate(batch):
        alone = decoder.decode(conditioning[index : index + 1], seeded(index + 1))[0]
        difference = np.abs(values(alone) - values(medium)).max()
        assert difference <= BATCH_TOLERANCE[decoder.modality]


def test_the_same_seed_gives_the_same_medium_and_another_seed_another(decoder: Decoder) -> None:
    first = decode_one(decoder, "a dog", seed=7)
    np.testing.assert_array_equal(first, decode_one(decoder, "a dog", seed=7))
    assert not np.array_equal(first, decode_one(decoder, "a dog", seed=8))


def test_conditioning_and_guidance_change_the_medium(decoder: Decoder) -> None:
    dog = decode_one(decoder, "a dog", seed=7)
    assert not np.array_equal(dog, decode_one(decoder, "two horses on a green background", seed=7))
    assert not np.array_equal(dog, decode_one(decoder, "a dog", seed=7, guidance_scale=1.0))


def test_media_come_without_caption_and_seed(decoder: Decoder) -> None:
    (medium,) = decoder.decode(decoder.encode_text(["a dog"]), seeded(0))
    assert medium.modality == decoder.modality
    assert medium.caption is None
    assert medium.seed is None


def test_threads_do_not_disturb_each_other(own_directory: Path, decoder: Decoder) -> None:
    jobs = [(seed, 1 + seed % 3) for seed in range(4)]
    expected = [
        decode_one(decoder, f"{seed} dogs", seed, num_inference_steps=steps) for seed, steps in jobs
    ]
    own = type(decoder)(str(own_directory))  # so that loading is raced for, too
    with ThreadPoolExecutor(len(jobs)) as pool:
        runs = [
            pool.submit(decode_one, own, f"{seed} dogs", seed, num_inference_steps=steps)
            for seed, steps in jobs
        ]
        for run, values_alone in zip(runs, expected, strict=True):
            np.testing.assert_array_equal(run.result(), values_alone)


def test_a_pickled_copy_gives_the_same_media(decoder: Decoder) -> None:
    clone = pickle.loads(pickle.dumps(decoder))
    np.testing.assert_array_equal(
        decode_one(clone, "a dog", seed=7), decode_one(decoder, "a dog", seed=7)
    )


def test_every_part_is_frozen(decoder: Decoder) -> None:
    decode_one(decoder, "a dog", seed=0)
    modules = [part for part in decoder._components.values() if isinstance(part, torch.nn.Module)]
    assert len(modules) == (4 if decoder.modality == "audio" else 3)
    for module in modules:
        assert not any(child.training for child in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_dtype_is_that_of_the_weights_and_targets_stay_float32(
    directories: dict[str, Path],
) -> None:
    decoder = ImageDecoder(str(directories["image"]), 2, dtype="bfloat16")
    target = decoder.encode_text(["a dog"])
    assert target.dtype == torch.float32
    assert decoder._components["text_encoder"].dtype == torch.bfloat16
    assert decoder.decode(target, seeded(0))[0].size == (32, 32)


def test_fingerprint_follows_the_weights_and_nothing_else(
    own_directory: Path, decoder: Decoder
) -> None:
    (own_directory / "README.md").write_text("words")
    (own_directory / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"an older copy")
    assert type(decoder)(str(own_directory)).fingerprint() == decoder.fingerprint()
    path = own_directory / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"][0] += 1
    save_file(weights, path, {"format": "pt"})
    assert type(decoder)(str(own_directory)).fingerprint() != decoder.fingerprint()


def test_decode_refuses_what_does_not_fit(decoder: Decoder) -> None:
    conditioning = decoder.encode_text(["a dog", "a cat"])
    with pytest.raises(ValueError, match=r"32\), got \(2, 3, 5\)"):
        decoder.decode(torch.zeros(2, 3, 5), seeded(0, 1))
    with pytest.raises(ValueError, match="1 generators for 2 rows"):
        decoder.decode(conditioning, seeded(0))
    with pytest.raises(ValueError, match="num_inference_steps is 0"):
        decoder.decode(conditioning, seeded(0, 1), num_inference_steps=0)


def test_one_generator_serves_a_whole_batch(decoder: Decoder) -> None:
    media = decoder.decode(decoder.encode_text(["a dog", "a dog"]), seeded(0)[0])
    assert not np.array_equal(values(media[0]), values(media[1]))


def test_missing_weights_are_named(own_directory: Path, decoder: Decoder) -> None:
    path = own_directory / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.weight"]
    save_file(weights, path, {"format": "pt"})
    own = type(decoder)(str(own_directory))
    with pytest.raises(ValueError, match="weights missing: conv_in.weight"):
        own.decode(own.encode_text(["a dog"]), seeded(0))


def test_text_encoders_saved_by_older_transformers_load_whole(
    directories: dict[str, Path], decoders: dict[str, Decoder], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(directories["image"], tmp_path / "old"))
    path = directory / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{key}": value for key, value in load_file(path).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(8)[None]
    save_file(weights, path, {"format": "pt"})
    old = ImageDecoder(str(directory))
    assert torch.equal(old.encode_text(CAPTIONS), decoders["image"].encode_text(CAPTIONS))


def test_a_directory_of_another_pipeline_is_refused(directories: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="AudioLDMPipeline.*needs a StableDiffusionPipeline"):
        _ = ImageDecoder(str(directories["audio"])).conditioning_shape


def test_a_directory_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_index\.json cannot be read"):
        _ = VideoDecoder(str(tmp_path)).conditioning_shape


@pytest.mark.parametrize("length", [None, 10**30, 99])
def test_a_tokenizer_without_a_fitting_length_is_refused(
    own_directory: Path, decoder: Decoder, length: int | None
) -> None:
    edit_json(own_directory / "tokenizer" / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(ValueError, match=f"model_max_length is {length}"):
        type(decoder)(str(own_directory)).encode_text(["a dog"])


def test_optional_components_may_be_absent_from_the_index(
    directories: dict[str, Path], decoders: dict[str, Decoder], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(directories["image"], tmp_path / "own"))
    absent = ("safety_checker", "feature_extractor", "image_encoder", "requires_safety_checker")
    edit_json(directory / "model_index.json", **dict.fromkeys(absent))
    np.testing.assert_array_equal(
        decode_one(ImageDecoder(str(directory), 2), "a dog", seed=7),
        decode_one(decoders["image"], "a dog", seed=7),
    )


def test_loading_leaves_logging_and_progress_bars_as_they_were(
    directories: dict[str, Path],
) -> None:
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    before = [(logger.level, list(logger.filters)) for logger in loggers]
    AudioDecoder(str(directories["audio"])).encode_text(["a dog"])
    assert [(logger.level, list(logger.filters)) for logger in loggers] == before
    assert diffusers.utils.logging.is_progress_bar_enabled()
    assert transformers.utils.logging.is_progress_bar_enabled()


@pytest.mark.slow  # a second process, which imports torch and diffusers once more
def test_a_fresh_process_loads_and_decodes_without_network_and_without_a_word(
    directories: dict[str, Path],
) -> None:
    program = """
import sys
import torch
from nextgpt.decoders import AudioDecoder, ImageDecoder, VideoDecoder
assert not {"diffusers", "transformers"} & set(sys.modules), "imported too early"
for decoder_class, source in zip((ImageDecoder, VideoDecoder, AudioDecoder), sys.argv[1:]):
    decoder = decoder_class(source, num_inference_steps=2)
    decoder.decode(decoder.encode_text(["a dog " * 99]), torch.Generator().manual_seed(0))
"""
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, directories.values())],
        capture_output=True,
        text=True,
        check=False,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
