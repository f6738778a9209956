"""The page shows every case with its media, holds them itself and believes no text."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
import soundfile

from nextgpt.evaluation.page import encoded, ordered, page
from nextgpt.evaluation.results import Neighbour, Row, Sample
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.media.stills import LONGEST_SOUND_S
from nextgpt.messages import Conversation, Message

PICTURE = Image(np.full((64, 64, 3), (20, 90, 200), np.uint8))
SOUND = Audio(np.sin(np.arange(40_960) / 5).astype(np.float32) * 0.4, sample_rate_hz=16_000)
CLIP = Video(
    np.stack([np.full((64, 64, 3), 30 * n, np.uint8) for n in range(8)]), frames_per_second=4
)
FACTS = {"seed": 3, "versions": {"torch": "2"}}


def case(*media: Medium, **changes: Any) -> Sample:
    settings: dict[str, Any] = {
        "wanted": "dog",
        "seen": "dog",
        "is_right": True,
        "asked": Conversation().user("Draw a dog."),
        "reply": Message("assistant", ["Here you are.", *media]),
    }
    return Sample(**settings | changes)


def written(*samples: Sample) -> str:
    return page([Row.proportion("picture shows the concept", list(samples), 0.7)], FACTS)


def album_of(html: str) -> dict[str, str]:
    [text] = re.findall(r'<script type="application/json" id="album">(.*?)</script>', html, re.S)
    found: dict[str, str] = json.loads(text)
    return found


def test_a_case_stands_with_prompt_reply_media_and_verdict() -> None:
    neighbour = Neighbour(CLIP, 0.87)
    html = written(case(PICTURE, SOUND, seen="cat", is_right=False, share=0.25, nearest=neighbour))
    for words in ("Draw a dog.", "Here you are.", "cat ✗", "25% sure", "similarity 0.87"):
        assert words in html
    assert html.count('<img data-medium="') == 2, "the picture and the sound's spectrogram"
    assert html.count("<audio ") == html.count("<video ") == 1
    keys = set(re.findall(r'data-medium="([^"]+)"', html))
    assert keys == set(album_of(html))


def test_a_medium_of_several_cases_is_held_once() -> None:
    html = written(case(PICTURE), case(PICTURE, nearest=Neighbour(PICTURE, 1.0)))
    assert html.count("<img ") == 3
    assert len(album_of(html)) == 1


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = written(case(PICTURE, SOUND, CLIP))
    assert all(address.startswith("data:") for address in album_of(html).values())
    assert not re.findall(r'(?:src|href)="(?!#)', html)
    assert "http" not in html


def test_what_a_model_writes_is_text_and_no_markup() -> None:
    html = written(case(reply=Message("assistant", ["<script>alert(1)</script>"])))
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_worst_and_best_cases_come_first_and_none_is_left_out() -> None:
    shares = [n / 40 for n in range(40)]
    html = written(*(case(share=share, is_right=share > 0.5) for share in shares))
    heads = [html.index(f"<h3>{name}</h3>") for name in ("worst", "best")]
    rest = html.index("the other 28 cases")
    assert "0% sure" in html[heads[0] : heads[1]]
    assert "98% sure" in html[heads[1] : rest]
    assert html.count('<div class="case ') == 40


def test_wrong_cases_are_worse_than_right_ones_whatever_the_judge_says() -> None:
    sure, unsure = case(share=0.4), case(share=0.9, is_right=False, seen="cat")
    assert ordered([sure, unsure, case(share=0.1)]) == [unsure, case(share=0.1), sure]


def test_the_same_cases_give_the_same_page() -> None:
    assert written(case(PICTURE, SOUND, CLIP)) == written(case(PICTURE, SOUND, CLIP))


def test_a_row_without_cases_is_in_the_table_alone() -> None:
    html = page([Row("seconds", 2.0, "<", 8.0, 1)], FACTS)
    assert "seconds" in html
    assert "<section" not in html


@pytest.mark.parametrize("medium", [PICTURE, SOUND, CLIP])
def test_media_are_encoded_as_browsers_play_them(medium: Medium) -> None:
    mime_type, data = encoded(medium)
    assert len(data) < 20_000
    if mime_type == "image/png":
        assert PIL.Image.open(io.BytesIO(data)).getpixel((9, 9)) == (20, 90, 200)
    elif mime_type == "audio/mpeg":
        waveform, rate_hz = soundfile.read(io.BytesIO(data))
        assert rate_hz == 16_000
        assert np.abs(waveform).max() == pytest.approx(0.4, abs=0.05)
    else:
        assert mime_type == "video/mp4"
        with av.open(io.BytesIO(data)) as container:
            assert container.streams.video[0].codec_context.name == "h264"


def test_long_sounds_are_cut_and_large_pictures_made_smaller() -> None:
    long = Audio(np.zeros(16_000 * 60, np.float32), sample_rate_hz=16_000)
    waveform, rate_hz = soundfile.read(io.BytesIO(encoded(long)[1]))
    assert len(waveform) / rate_hz == pytest.approx(LONGEST_SOUND_S, abs=0.2)
    large = Image(np.zeros((1000, 500, 3), np.uint8))
    assert PIL.Image.open(io.BytesIO(encoded(large)[1])).size == (128, 256)
    assert large.size == (500, 1000), "the medium itself stays"
