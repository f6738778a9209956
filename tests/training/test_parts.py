"""The recipes of the decoders' parts on a tiny world: two steps, then diffusers opens them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AudioLDMPipeline, AutoencoderTiny
from quiet_trainer import quiet_trainer
from safetensors.torch import load_file

from nextgpt.data.manifest import Item, write_manifest
from nextgpt.decoders import AudioDecoder, VideoDecoder
from nextgpt.media import Audio, Image, Video
from nextgpt.modality import Modality
from nextgpt.training.parts.audio_diffusion import AudioDiffusionRecipe, SoundLatents
from nextgpt.training.parts.audio_text_encoder import SoundCaptionData, SoundTextEncoderRecipe
from nextgpt.training.parts.autoencoder import AutoencoderRecipe
from nextgpt.training.parts.diffusion import CaptionedLatents
from nextgpt.training.parts.image_diffusion import ImageDiffusionRecipe, PictureLatents
from nextgpt.training.parts.media import LogMelData, PictureData, WaveformData, world_items
from nextgpt.training.parts.text_encoder import (
    CaptionData,
    TextEncoderRecipe,
    add_words,
    train_tokenizer,
)
from nextgpt.training.parts.video_diffusion import (
    ClipLatents,
    VideoDiffusionRecipe,
    inflated,
    is_temporal,
)
from nextgpt.training.parts.vocoder import (
    VocoderRecipe,
    log_spectral_distance_db,
    multi_resolution_stft_loss,
)
from nextgpt.world.concepts import drawings
from nextgpt.world.own_media import OWN
from nextgpt.world.plans import plan_clips, plan_pictures, plan_sounds
from nextgpt.world.scenes import held_out_pairs
from nextgpt.world.sources import MEDIA_SOURCES

WHOLE = [drawing for drawing in drawings("model") if drawing.view == "whole"]
WIDTHS = (32, 32, 32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of real captions whose media are noise."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    pairs, font = held_out_pairs(), MEDIA_SOURCES["fluid-soundfont-gm"]
    planned = [
        *plan_pictures("train", WHOLE, 12, 0),
        *plan_pictures("validation", WHOLE, 4, 0),
        *plan_pictures("held_out_pair", WHOLE, 4, 0, pairs=pairs),
        *plan_clips("train", WHOLE, 6, 0),
        *plan_clips("validation", WHOLE, 3, 0),
        *plan_sounds("train", 40, 0, font),
        *plan_sounds("validation", 4, 0, font),
        *plan_sounds("held_out_combination", 4, 0, font),
    ]
    for each in planned:
        medium: Any
        match each.item.modality:
            case "image":
                medium = Image(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            case "video":
                medium = Video(rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), 4.0)
            case _:
                medium = Audio(rng.uniform(-0.5, 0.5, 40_960).astype(np.float32), 16_000)
        medium.save(folder / each.item.path)
    write_manifest(folder / "manifest.jsonl", [each.item for each in planned])
    return folder


Fit = Callable[..., None]


@pytest.fixture
def fit(own_cache: Path, tmp_path: Path) -> Fit:
    """Trains a recipe for a few steps and validates once."""

    def trained(recipe: Any, data: Any, steps: int = 2) -> None:
        torch.manual_seed(0)
        options = {"check_val_every_n_epoch": None, "val_check_interval": steps}
        trainer = quiet_trainer(tmp_path / "run", steps, limit_val_batches=1, **options)
        trainer.fit(recipe, datamodule=data)

    return trained


def test_image_and_video_pipelines_are_trained_and_open(
    fit: Fit, world: Path, sentences: Path, tmp_path: Path
) -> None:
    image, video = tmp_path / "image", tmp_path / "video"
    text = TextEncoderRecipe(image, hidden_size=64, num_layers=1, vocab_size=200)
    fit(text, CaptionData(world, 4, str(sentences)))
    fit(AutoencoderRecipe(image / "vae", width=16, crop=16), PictureData(world, 32, 4))
    captions = ("a dog on a blue background",)
    pictures = PictureLatents(image, world, 32, 4)
    fit(ImageDiffusionRecipe(image, WIDTHS, sample_captions=captions), pictures)
    assert list((tmp_path / "run").glob("samples-*.png"))
    fit(
        VideoDiffusionRecipe(video, image / "unet", sample_captions=captions),
        ClipLatents(image, world, 32, 8, 2),
    )
    for name in ("vae", "text_encoder", "tokenizer"):
        assert (video / name).is_symlink() and (video / name).resolve() == image / name
    decoder = VideoDecoder(str(video), num_inference_steps=2)
    conditioning = decoder.encode_text(["a dog moving up on a blue background"])
    clip = decoder.decode(conditioning, torch.Generator().manual_seed(0))[0]
    assert clip.frames(8).shape == (8, 32, 32, 3)
    # Going on starts with the weights that were written; the image decoder stays as it is.
    parts = [*image.rglob("*.safetensors"), *image.rglob("*.json")]
    before = {path: path.read_bytes() for path in parts}
    recipe = VideoDiffusionRecipe(video, image / "unet", start_from=video / "unet")
    fit(recipe, ClipLatents(image, world, 32, 8, 2), steps=1)
    assert {path: path.read_bytes() for path in parts} == before


def test_the_decoder_alone_learns_and_latents_stay(fit: Fit, world: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fit(AutoencoderRecipe(first, width=16, crop=16), PictureData(world, 32, 4))
    going_on = AutoencoderRecipe(second, first, crop=16, decoder_alone=True)
    fit(going_on, PictureData(world, 32, 4))
    before, after = (AutoencoderTiny.from_pretrained(folder) for folder in (first, second))
    assert before.config.scaling_factor == after.config.scaling_factor
    torch.testing.assert_close(
        before.encoder.state_dict(), after.encoder.state_dict(), rtol=0, atol=0
    )
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before.decoder.parameters(), after.decoder.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2


def test_the_decoder_alone_needs_an_encoder_that_stays() -> None:
    with pytest.raises(ValueError, match="decoder_alone needs start_from"):
        AutoencoderRecipe(decoder_alone=True)


def test_a_share_of_samples_is_conditioned_on_the_words_alone() -> None:
    recipe = ImageDiffusionRecipe(unconditional_share=0.0, words_share=0.5)
    recipe.unet = tiny_unet(heads=(2, 4))
    recipe.register_buffer("unconditional", torch.zeros(5, 16))
    seen = []

    def look(_: Any, __: Any, given: dict[str, torch.Tensor]) -> None:
        seen.extend(map(tuple, given["encoder_hidden_states"][:, :, 0].int().tolist()))

    recipe.unet.register_forward_pre_hook(look, with_kwargs=True)
    torch.manual_seed(0)
    ends = torch.tensor([2, 4] * 100)
    recipe.training_step([torch.randn(200, 4, 8, 8), torch.ones(200, 5, 16), ends])
    whole = (1, 1, 1, 1, 1)
    assert set(seen[::2]) == {whole, (1, 1, 0, 0, 0)}
    assert set(seen[1::2]) == {whole, (1, 1, 1, 1, 0)}
    assert 60 < seen.count(whole) < 140


def test_words_that_a_tokenizer_would_cut_become_tokens_and_old_sentences_stay() -> None:
    old, new = "a dog on a blue background, flat style", "two small crocodiles, flat style"
    tokenizer = train_tokenizer([old], 20, 200)
    before = tokenizer(old)["input_ids"]
    assert add_words(tokenizer, [old, new]) == ["crocodiles", "small", "two"]
    assert tokenizer(old)["input_ids"] == before
    assert len(tokenizer.tokenize("Two crocodiles")) == 2
    assert len(tokenizer.tokenize("crocodile")) > 1
    assert add_words(tokenizer, [old, new]) == []


def test_a_text_encoder_learns_new_words_and_nothing_else(
    fit: Fit, world: Path, sentences: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, CLIPTextModel

    first, second = tmp_path / "first", tmp_path / "second"
    options = {"hidden_size": 64, "num_layers": 1, "vocab_size": 200}
    fit(TextEncoderRecipe(first, **options), CaptionData(world, 4, str(sentences)))
    data = CaptionData(world, 4, str(sentences))
    data.captions.append("a zeppelin on a blue background")
    fit(TextEncoderRecipe(second, start_from=first), data, steps=3)
    caption = data.captions[0]
    states = []
    for folder in (first, second):
        tokens = AutoTokenizer.from_pretrained(folder / "tokenizer")(caption, return_tensors="pt")
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        states.append(encoder(tokens["input_ids"]).last_hidden_state)
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert "zeppelin" in AutoTokenizer.from_pretrained(second / "tokenizer").get_vocab()
    with pytest.raises(ValueError, match="no caption has a word that is new to"):
        fit(TextEncoderRecipe(second, start_from=second), CaptionData(world, 4, str(sentences)))


def tiny_unet(heads: tuple[int, int]) -> Any:
    """Build an image U-Net with attention over text at 32 and at 64 channels."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=heads,
        norm_num_groups=8,
    )


def test_an_inflated_network_treats_frames_as_unrelated_pictures(tmp_path: Path) -> None:
    flat = tiny_unet(heads=(2, 4))
    flat.save_pretrained(tmp_path)
    deep = inflated(tmp_path).eval()
    frames, text = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 16)
    with torch.no_grad():
        together = deep(frames, 10, encoder_hidden_states=text).sample
        single = [flat(f, 10, encoder_hidden_states=text).sample for f in frames.unbind(2)]
    # Measured worst case 2e-6.
    assert torch.allclose(together, torch.stack(single, 2), atol=1e-5)
    assert any(is_temporal(name) for name in deep.state_dict())
    assert not any(is_temporal(name) for name in flat.state_dict())


def test_an_image_network_with_heads_of_several_widths_is_not_inflated(tmp_path: Path) -> None:
    tiny_unet(heads=(4, 4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="attention heads of 8, 16 channels"):
        inflated(tmp_path)


def test_an_audio_pipeline_is_trained_and_opens(
    fit: Fit, world: Path, sentences: Path, tmp_path: Path
) -> None:
    audio = tmp_path / "audio"
    text = SoundTextEncoderRecipe(audio, hidden_size=64, num_layers=1, vocab_size=120)
    fit(text, SoundCaptionData(world, 8, str(sentences)))
    vae = AutoencoderRecipe(audio / "vae", width=16, channels=1, crop=32)
    fit(vae, LogMelData(world, 2.56, 4))
    fit(VocoderRecipe(audio / "vocoder", width=16), WaveformData(world, 2.56, 4))
    captions = ("a dog barking", "a piano playing one note")
    fit(
        AudioDiffusionRecipe(audio, WIDTHS, sample_captions=captions),
        SoundLatents(audio, world, 2.56, 4),
    )
    # Weights are stored as float16 and read back as float32, by every library.
    for name in ("text_encoder", "vocoder"):
        stored = load_file(audio / name / "model.safetensors").values()
        assert {value.dtype for value in stored if value.is_floating_point()} == {torch.float16}
    opened = AudioLDMPipeline.from_pretrained(audio)
    parts = (opened.unet, opened.vae, opened.text_encoder, opened.vocoder)
    assert {part.dtype for part in parts} == {torch.float32}
    decoder = AudioDecoder(str(audio), num_inference_steps=2)
    # What the recipe conditioned on is what the decoder conditions on.
    recipe_data = SoundLatents(audio, world, 2.56, 4)
    recipe_data.setup("fit")
    ours = recipe_data.encode_text(list(captions))
    assert torch.allclose(ours, decoder.encode_text(captions), atol=1e-6)
    sounds = decoder.decode(ours, [torch.Generator().manual_seed(i) for i in range(2)])
    assert [sound.waveform.shape for sound in sounds] == [(1, 40_960)] * 2


def chord(seed: int) -> torch.Tensor:
    """A decaying chord of sines, (1, 8000)."""
    rng = random.Random(seed)
    times = torch.arange(8000) / 16_000
    tones = [torch.sin(2 * np.pi * rng.uniform(200, 2000) * times) for _ in range(3)]
    return (torch.stack(tones).mean(0) * torch.exp(-3 * times))[None]


def test_spectral_distances_are_zero_for_the_same_sound_and_grow_with_noise() -> None:
    real = chord(0)
    assert float(multi_resolution_stft_loss(real, real)) < 1e-6
    assert float(log_spectral_distance_db(real, real)) < 1e-4
    noisy = [real + level * torch.randn(real.shape) for level in (0.001, 0.01, 0.1)]
    for measure in (multi_resolution_stft_loss, log_spectral_distance_db):
        distances = [float(measure(sound, real)) for sound in noisy]
        assert distances == sorted(distances)


def test_a_vocoder_learns() -> None:
    torch.manual_seed(0)
    recipe = VocoderRecipe(width=32, segment_s=0.32)
    recipe.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=2e-3)
    sounds = torch.cat([chord(seed) for seed in range(4)])
    losses = []
    for _ in range(30):
        loss = recipe.training_step([sounds])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_ones_own_media_are_a_share_of_those_drawn(world: Path) -> None:
    items = world_items(world, "train", modality=Modality.AUDIO)
    mine = replace(items[0], caption="my own", attributes={"origin": OWN})
    conditioning = {item.caption: (torch.zeros(1, 2), 1) for item in (*items, mine)}

    def drawn(share: float, *added: Item) -> torch.Tensor:
        data = SoundLatents(world=world, batch_size=1, own_share=share)
        marks = torch.tensor([0.0] * len(items) + [1.0] * len(added))
        data.train = CaptionedLatents(marks, [*items, *added], conditioning)
        torch.manual_seed(0)
        return torch.cat([torch.cat([x for x, *_ in data.train_dataloader()]) for _ in range(100)])

    assert abs(drawn(0.5, mine).mean() - 0.5) < 0.1
    with pytest.raises(ValueError, match="no audio of one's own"):
        drawn(0.5)
    with pytest.raises(ValueError, match="own_share is 1.5"):
        drawn(1.5, mine)


def test_media_of_a_weighted_value_are_drawn_more_often(world: Path) -> None:
    items = world_items(world, "train", modality=Modality.AUDIO)
    share = sum(item.attributes["contour"] == "rising" for item in items) / len(items)
    assert 0 < share < 0.5
    # The latents say which sounds are drawn.
    marks = torch.tensor([float(item.attributes["contour"] == "rising") for item in items])
    conditioning = {item.caption: (torch.zeros(1, 2), 1) for item in items}

    def drawn(weights: dict[str, float] | None) -> torch.Tensor:
        data = SoundLatents(world=world, batch_size=4, weights=weights)
        data.train = CaptionedLatents(marks, items, conditioning)
        torch.manual_seed(0)
        return torch.cat([latents for latents, *_ in data.train_dataloader()])

    assert drawn({"rising": 1000.0}).mean() > 0.9
    # Without weights each is drawn once.
    assert drawn(None).sum() == marks.sum()
    with pytest.raises(ValueError, match="no audio has sideways"):
        drawn({"sideways": 2.0})
