"""Tiny random parts in the real formats, built in a second, seeded and without a network.

Each function fills a folder with what `from_pretrained` of the real classes loads: three diffusers
pipelines and one causal language model. They produce noise, but with every shape, file and code
path of the real thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = [
    "a dog on a blue background",
    "a small cat on the left on a red background",
    "two horses on a green background, flat style",
    "three large red balloons on a white background, cartoon style",
    "the sound of a violin, low and slow",
    "a rooster crows twice while an owl hoots",
    "a rocket moves up, then a car moves to the right",
    "Draw me a picture of a house under a rainbow, please.",
    "What is this, and what does it sound like? It is a dog, and it barks.",
]

CHATML_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_image_decoder(directory: Path, width: int = 32, length: int = 8) -> Path:
    """Fill ``directory`` with a `StableDiffusionPipeline` that makes 32x32 pictures.

    Args:
        directory: Folder to fill; made if missing.
        width: Conditioning width, the hidden size of the text encoder; a multiple of 4.
        length: Conditioning length, the tokenizer's ``model_max_length``.

    Returns:
        ``directory``.
    """
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    with _seeded():
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=4,
        )
        pipeline = StableDiffusionPipeline(
            vae=tiny_autoencoder(channels=3),
            unet=unet,
            scheduler=_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **_clip(width, length),
        )
    pipeline.save_pretrained(directory)
    return directory


def tiny_video_decoder(directory: Path, width: int = 32, length: int = 8) -> Path:
    """Fill ``directory`` with a `TextToVideoSDPipeline` that makes 32x32 clips.

    Args:
        directory: Folder to fill; made if missing.
        width: Conditioning width, the hidden size of the text encoder; a multiple of 4.
        length: Conditioning length, the tokenizer's ``model_max_length``.

    Returns:
        ``directory``.
    """
    from diffusers import TextToVideoSDPipeline, UNet3DConditionModel

    with _seeded():
        unet = UNet3DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock3D", "CrossAttnDownBlock3D"),
            up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"),
            cross_attention_dim=width,
            attention_head_dim=4,
        )
        pipeline = TextToVideoSDPipeline(
            vae=tiny_autoencoder(channels=3),
            unet=unet,
            scheduler=_scheduler(),
            **_clip(width, length),
        )
    pipeline.save_pretrained(directory)
    return directory


def tiny_audio_decoder(directory: Path, width: int = 32) -> Path:
    """Fill ``directory`` with an `AudioLDMPipeline`: 16 mels at hop 320, 16 kHz.

    Args:
        directory: Folder to fill; made if missing.
        width: Conditioning width, the projection size of the text encoder.

    Returns:
        ``directory``.
    """
    from diffusers import AudioLDMPipeline, UNet2DConditionModel
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    with _seeded():
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=(8, 16),
            attention_head_dim=4,
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=width,
            class_embeddings_concat=True,
        )
        vocoder = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=16,
                sampling_rate=16_000,
                upsample_initial_channel=16,
                upsample_rates=[8, 8, 5],
                upsample_kernel_sizes=[16, 16, 11],
                resblock_kernel_sizes=[3],
                resblock_dilation_sizes=[[1, 3]],
                normalize_before=False,
                initializer_range=0.2,  # the default gives a sound of amplitude 1e-8
            )
        )
        pipeline = AudioLDMPipeline(
            vae=tiny_autoencoder(channels=1),
            unet=unet,
            scheduler=_scheduler(),
            vocoder=vocoder,
            **_clap(width),
        )
    pipeline.save_pretrained(directory)
    return directory


def tiny_language_model(directory: Path, **changes: Any) -> Path:
    """Fill ``directory`` with a Llama of 2 layers, 32 wide, tied embeddings, and its tokenizer.

    The tokenizer is byte-level BPE of about 300 entries with the ChatML tokens as special tokens,
    roles given as in SmolLM2-Instruct.

    Args:
        directory: Folder to fill; made if missing.
        **changes: Options of `LlamaConfig` that differ from that.

    Returns:
        ``directory``.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    _train(backend, vocab_size=300, special_tokens=CHATML_TOKENS)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    with _seeded():
        options = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        model = LlamaForCausalLM(LlamaConfig(**(options | changes)))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_autoencoder(channels: int, num_stages: int = 3) -> Any:
    """Return an `AutoencoderTiny` whose pictures are ``2 ** (num_stages - 1)`` times its latents.

    Args:
        channels: Channels of the picture: 3, or 1 for a log-mel spectrogram.
        num_stages: Stages of encoder and decoder; each but one halves or doubles the size.
    """
    from diffusers import AutoencoderTiny

    autoencoder = AutoencoderTiny(
        in_channels=channels,
        out_channels=channels,
        encoder_block_out_channels=(8,) * num_stages,
        decoder_block_out_channels=(8,) * num_stages,
        num_encoder_blocks=(1,) * num_stages,
        num_decoder_blocks=(1,) * num_stages,
    )
    # Random weights alone give values near black, where clipping would hide differences.
    last = autoencoder.decoder.layers[-1]
    torch.nn.init.constant_(last.bias, 0.5)
    torch.nn.init.normal_(last.weight, std=0.5)
    return autoencoder


@contextmanager
def _seeded() -> Iterator[None]:
    """Draw the same weights every time and leave the caller's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def _clip(width: int, length: int) -> dict[str, Any]:
    """Text encoder and tokenizer of Stable Diffusion and Zeroscope."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    backend = CLIPTokenizer().backend_tokenizer  # for its normalizer and pre-tokenizer
    special_tokens = ["<|startoftext|>", "<|endoftext|>"]
    # The trainer numbers last letters in an order that differs from run to run, unless it has them.
    last_letters = [f"{letter}</w>" for letter in sorted(pre_tokenizers.ByteLevel.alphabet())]
    _train(backend, 650, special_tokens + last_letters, end_of_word_suffix="</w>")
    vocabulary = json.loads(backend.to_str())["model"]
    tokenizer = CLIPTokenizer(
        vocab=vocabulary["vocab"],
        merges=[tuple(pair) for pair in vocabulary["merges"]],
        model_max_length=length,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return {"text_encoder": text_encoder.eval(), "tokenizer": tokenizer}


def _clap(width: int) -> dict[str, Any]:
    """Text encoder and tokenizer of AudioLDM."""
    from transformers import ClapTextConfig, ClapTextModelWithProjection, RobertaTokenizer

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # The order gives <pad> the id 1, which ClapTextConfig and the position ids rely on.
    _train(backend, 400, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    vocabulary = json.loads(backend.to_str())["model"]
    tokenizer = RobertaTokenizer(
        vocab=vocabulary["vocab"],
        merges=[tuple(pair) for pair in vocabulary["merges"]],
        model_max_length=16,
    )
    text_encoder = ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=64,
            projection_dim=width,
        )
    )
    return {"text_encoder": text_encoder.eval(), "tokenizer": tokenizer}


def _train(
    backend: Tokenizer, vocab_size: int, special_tokens: list[str], end_of_word_suffix: str = ""
) -> None:
    backend.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special_tokens,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            end_of_word_suffix=end_of_word_suffix,
            show_progress=False,
        ),
    )
