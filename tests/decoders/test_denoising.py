"""Media to latents, and the frozen U-Net's loss at denoising them."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from decoding import edit_json, seeded
from diffusers import AutoencoderKL
from tiny_chain import medium
from torch import Tensor

from nextgpt.decoders import AudioDecoder, Decoder, ImageDecoder, VideoDecoder
from nextgpt.media import Audio, Image, Medium, Video

MICRO = Path(__file__).parents[2] / "checkpoints" / "micro"


def media(decoder: Decoder, count: int = 2) -> list[Medium]:
    return [medium(decoder.modality, seed) for seed in range(count)]


def random_conditioning(decoder: Decoder, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *decoder.conditioning_shape, generator=generator).requires_grad_()


def modules(decoder: Decoder) -> list[torch.nn.Module]:
    return [part for part in decoder._components.values() if isinstance(part, torch.nn.Module)]


# Latents


def test_latents_have_the_shape_that_decoding_ends_with(decoder: Decoder) -> None:
    shown: list[Tensor] = []
    decoder.decode(
        decoder.encode_text(["a dog"] * 2),
        seeded(0, 1),
        on_step=lambda step, total, latents: shown.append(latents),
    )
    latents = decoder.latents(media(decoder))
    assert latents.shape == shown[-1].shape
    assert latents.dtype == torch.float32 and not latents.requires_grad


def test_equal_media_have_equal_latents_and_others_have_others(decoder: Decoder) -> None:
    first, second = decoder.latents(media(decoder))
    assert not torch.equal(first, second)
    alone = decoder.latents(media(decoder)[1:])[0]
    assert torch.allclose(alone, second, atol=1e-6)  # measured 1e-7


@pytest.mark.parametrize(
    "large",
    [
        Image(torch.randint(256, (90, 301, 3), dtype=torch.uint8).numpy()),
        Video(torch.randint(256, (3, 50, 41, 3), dtype=torch.uint8).numpy(), 1.5),
        Audio(torch.rand(2, 99_000).numpy() - 0.5, 44_100),
        Audio(torch.rand(1, 10).numpy() - 0.5, 8_000),
    ],
    ids=["picture", "clip", "stereo", "click"],
)
def test_media_of_any_size_and_rate_become_latents_of_one_shape(
    decoders: dict[str, Decoder], large: Medium
) -> None:
    decoder = decoders[large.modality]
    latents = decoder.latents([large, medium(large.modality)])
    assert latents.shape[0] == 2 and latents.isfinite().all()


def test_the_autoencoders_mean_is_scaled_as_the_unet_wants_it(
    own_directory: Path, decoder: Decoder
) -> None:
    channels = 1 if decoder.modality == "audio" else 3
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        channels,
        channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        scaling_factor=0.25,
    ).eval()
    autoencoder.save_pretrained(own_directory / "vae")
    edit_json(own_directory / "model_index.json", vae=["diffusers", "AutoencoderKL"])
    own = type(decoder)(str(own_directory))
    latents = own.latents(media(own))
    assert latents.shape[-1] == 2 * decoder.latents(media(decoder)).shape[-1] or channels == 3
    values = torch.stack([own._values(each) for each in media(own)])
    with torch.no_grad():
        rows = autoencoder.encode(values.flatten(0, -4)).latent_dist.mean * 0.25
    if decoder.modality == "video":
        rows = torch.stack(rows.split(8)).transpose(1, 2)
    assert torch.allclose(latents, rows, atol=1e-6)  # measured 0


def test_latents_of_other_media_sizes_are_kept_apart(directories: dict[str, Path]) -> None:
    image, video, audio = (str(directories[name]) for name in ("image", "video", "audio"))
    fingerprints = [
        ImageDecoder(image).latents_fingerprint(),
        VideoDecoder(video).latents_fingerprint(),
        VideoDecoder(video, num_frames=4).latents_fingerprint(),
        VideoDecoder(video, frames_per_second=8.0).latents_fingerprint(),
        VideoDecoder(video, height=16).latents_fingerprint(),
        AudioDecoder(audio).latents_fingerprint(),
        AudioDecoder(audio, duration_s=1.28).latents_fingerprint(),
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    # What only decoding depends on is no reason to encode again.
    assert ImageDecoder(image, 7, 1.5).latents_fingerprint() == fingerprints[0]


def test_a_vocoder_whose_mels_are_unknown_is_refused(directories: dict[str, Path]) -> None:
    audio = AudioDecoder(str(directories["audio"]))
    whole = audio._config
    audio._config = lambda name: whole(name) | {"upsample_rates": [4, 4]}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="16 samples a mel frame at 16000 Hz; .* 320 .* 160"):
        audio.latents([medium("audio")])


# The loss


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_that_of_the_pipelines_own_unet_and_scheduler(
    own_directory: Path, decoder: Decoder, prediction: str
) -> None:
    changes = {"prediction_type": prediction, "rescale_betas_zero_snr": False}
    edit_json(own_directory / "scheduler" / "scheduler_config.json", **changes)
    own = type(decoder)(str(own_directory))
    conditioning, latents = own.encode_text(["a dog", "a cat"]), own.latents(media(own))
    losses = own.denoising_loss(conditioning, latents, seeded(5)[0])

    pipeline = diffusers.DiffusionPipeline.from_pretrained(own_directory)
    generator = seeded(5)[0]
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = ((torch.arange(2) + torch.rand(2, generator=generator)) * 500).long()
    noisy = pipeline.scheduler.add_noise(latents, noise, timesteps)
    told: dict[str, Any] = {"encoder_hidden_states": conditioning}
    if decoder.modality == "audio":
        told = {"encoder_hidden_states": None, "class_labels": conditioning[:, 0]}
    with torch.no_grad():
        predicted = pipeline.unet(noisy, timesteps, **told).sample
    velocity = pipeline.scheduler.get_velocity(latents, noise, timesteps)
    target = noise if prediction == "epsilon" else velocity
    kept = pipeline.scheduler.alphas_cumprod[timesteps]
    snr = kept / (1 - kept)
    weights = snr.clamp(max=5) / (snr if prediction == "epsilon" else snr + 1)
    expected = weights * (predicted - target).square().flatten(1).mean(dim=1)
    assert losses.shape == (2,)
    assert torch.allclose(losses, expected, rtol=1e-4)  # measured 2e-6


def test_gradients_reach_the_conditioning_and_nothing_of_the_pipeline(
    directory: Path, decoder: Decoder
) -> None:
    fresh = type(decoder)(str(directory))
    conditioning = random_conditioning(decoder)
    latents = decoder.latents(media(decoder))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = fresh.denoising_loss(conditioning, latents, seeded(0)[0])
    assert set(fresh._components) == {"unet", "scheduler"}
    losses[0].backward()
    assert conditioning.grad is not None
    assert conditioning.grad[0].abs().sum() > 0
    # The loss of one sample is of its own conditioning alone.
    assert not conditioning.grad[1].any()
    for module in modules(fresh):
        assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    # The same noise gives the same loss, with or without autocast around.
    assert torch.equal(losses, fresh.denoising_loss(conditioning, latents, seeded(0)[0]))
    assert not torch.equal(losses, fresh.denoising_loss(conditioning, latents, seeded(1)[0]))


def test_a_unet_loaded_in_inference_mode_still_teaches(directory: Path, decoder: Decoder) -> None:
    # As when Lightning validates before the first step.
    fresh, latents = type(decoder)(str(directory)), decoder.latents(media(decoder))
    conditioning = random_conditioning(decoder)
    with torch.inference_mode():
        fresh.denoising_loss(conditioning, latents)
    fresh.denoising_loss(conditioning, latents).sum().backward()
    assert conditioning.grad is not None and conditioning.grad.any()


def test_the_loss_falls_when_the_conditioning_follows_its_gradient(decoder: Decoder) -> None:
    conditioning, latents = random_conditioning(decoder), decoder.latents(media(decoder))
    optimizer = torch.optim.Adam([conditioning], lr=0.1)
    losses = []
    for _ in range(8):
        loss = decoder.denoising_loss(conditioning, latents, seeded(0)[0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)


def test_half_precision_weights_teach_too(directories: dict[str, Path]) -> None:
    decoder = ImageDecoder(str(directories["image"]), dtype="bfloat16")
    conditioning, latents = random_conditioning(decoder), decoder.latents(media(decoder))
    losses = decoder.denoising_loss(conditioning, latents)
    assert (losses.dtype, latents.dtype) == (torch.float32, torch.float32)
    losses.sum().backward()
    assert conditioning.grad is not None and conditioning.grad.any()


def test_a_scheduler_of_another_prediction_is_refused(
    own_directory: Path, decoder: Decoder
) -> None:
    edit_json(own_directory / "scheduler" / "scheduler_config.json", prediction_type="sample")
    own = type(decoder)(str(own_directory))
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        own.denoising_loss(random_conditioning(own), own.latents(media(own)))


# The shipped decoders

CAPTIONS = {
    "image": ("a dog on a blue background", "two apples on a red background"),
    "video": ("a rocket moves up on a blue background", "a dog moves left on a red background"),
    "audio": ("a dog barking", "a piano playing one note"),
}


@pytest.mark.parametrize(
    "decoder_class",
    [ImageDecoder, AudioDecoder, pytest.param(VideoDecoder, marks=pytest.mark.slow)],
)
def test_the_micro_decoders_denoise_best_what_they_are_told(decoder_class: type[Decoder]) -> None:
    decoder = decoder_class(str(MICRO / decoder_class.modality), num_inference_steps=6)
    conditioning = decoder.encode_text(CAPTIONS[decoder.modality])
    made = decoder.decode(conditioning, seeded(0, 1))
    latents = decoder.latents(made)
    assert 0.5 < float(latents.std()) < 1.5  # what a U-Net is trained on has a variance near 1
    told = conditioning.repeat_interleave(3, dim=0)
    told_wrong = conditioning.flip(0).repeat_interleave(3, dim=0)
    to_see = latents.repeat_interleave(3, dim=0)
    right = decoder.denoising_loss(told, to_see, seeded(0)[0]).detach()
    wrong = decoder.denoising_loss(told_wrong, to_see, seeded(0)[0]).detach()
    for rows in (slice(0, 3), slice(3, 6)):
        assert right[rows].mean() < 0.9 * wrong[rows].mean(), decoder.modality
