"""Perplexity on prose: what the closed form says, with the adapter and without."""

from __future__ import annotations

import gzip
import io
import math
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_chain import tiny_chain

from nextgpt.evaluation.prose import SHORTEST, prose
from nextgpt.evaluation.rows.prose import perplexity, rows
from nextgpt.evaluation.runner import Evaluation
from nextgpt.language_model import LanguageModel

if TYPE_CHECKING:
    from conftest import TinyParts

TEXT = "The harbour was quiet when the boats came in. " * 8


@pytest.fixture
def model(tiny: TinyParts) -> LanguageModel:
    """A tiny language model with an adapter that changes something."""
    found = tiny_chain(tiny).language_model
    found.add_lora()
    with torch.no_grad():
        for number, parameter in enumerate(found.lora_parameters().values()):
            torch.manual_seed(number)
            parameter.normal_(std=0.5)
    return found


def test_perplexity_is_that_of_the_bare_model_of_transformers(model: LanguageModel) -> None:
    input_ids = torch.tensor(model.tokenizer(TEXT)["input_ids"])[None]
    with torch.inference_mode(), model.without_lora():
        loss = model.llm(input_ids, labels=input_ids).loss
    alone = perplexity(model, TEXT, input_ids.shape[1], with_lora=False)
    assert alone == pytest.approx(math.exp(float(loss)), rel=1e-4)


def test_the_adapter_and_the_signal_tokens_count_when_it_is_on(model: LanguageModel) -> None:
    on, off = (perplexity(model, TEXT, 50, with_lora) for with_lora in (True, False))
    with model.without_lora():
        rows_alone = perplexity(model, TEXT, 50, with_lora=True)
    assert rows_alone > 1.01 * off, "signal tokens take a share"
    assert on != pytest.approx(rows_alone, rel=1e-3), "the adapter changes what is likely"


def test_the_adapter_is_back_afterwards(model: LanguageModel) -> None:
    before = perplexity(model, TEXT, 50, with_lora=True)
    perplexity(model, TEXT, 50, with_lora=False)
    assert perplexity(model, TEXT, 50, with_lora=True) == before


def test_the_row_is_measured_once(measured: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = rows(measured)
    assert "adapter on" in row.note
    monkeypatch.setattr("nextgpt.evaluation.rows.prose.perplexity", None)
    assert next(rows(measured)) == row


def test_prose_is_paragraphs_without_headings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paragraph = "    a line of the text\n" * (SHORTEST // 10)
    text = gzip.compress(f"Chapter 1\n\n{paragraph}\nContents\n\n{paragraph}".encode())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        member = tarfile.TarInfo("./usr/share/doc/debian-faq.en.txt.gz")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    data = buffer.getvalue()
    deb = tmp_path / "debian-faq.deb"
    header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    deb.write_bytes(b"!<arch>\n" + header + data)
    monkeypatch.setenv("NEXTGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nextgpt.world.sources.PinnedSource.fetch", lambda *_: deb)
    found = prose().split("\n\n")
    assert len(found) == 2
    assert found[0] == " ".join(["a line of the text"] * (SHORTEST // 10))
