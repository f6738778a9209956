"""What holds for clips."""

from pathlib import Path

import torch

from nextgpt.decoders import VideoDecoder


def test_a_clip_has_the_frames_rate_and_size_asked_for(directories: dict[str, Path]) -> None:
    decoder = VideoDecoder(
        str(directories["video"]), 1, num_frames=3, frames_per_second=6.0, height=16, width=24
    )
    (clip,) = decoder.decode(decoder.encode_text(["a dog"]), torch.Generator().manual_seed(0))
    assert clip.frames(3).shape == (3, 16, 24, 3)
    assert (clip.num_frames, clip.frames_per_second) == (3, 6.0)


def test_a_clip_has_by_default_the_size_of_the_u_net(directories: dict[str, Path]) -> None:
    decoder = VideoDecoder(str(directories["video"]), 1)
    (clip,) = decoder.decode(decoder.encode_text(["a dog"]), torch.Generator().manual_seed(0))
    assert clip.frames(clip.num_frames).shape == (8, 32, 32, 3)
    assert clip.duration_s == 2.0
