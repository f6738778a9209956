"""A tiny sentence encoder, for recipes that learn from captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from nextgpt.world.scenes import COLOURS


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sentence encoder, 16 wide, in MiniLM's files."""
    directory = tmp_path_factory.mktemp("sentences")
    words = {"[PAD]": 0, "[UNK]": 1}
    for word in ("a an apple house on background " + " ".join(COLOURS)).split():
        words.setdefault(word, len(words))
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=len(words), num_hidden_layers=1, **sizes))
    model.save_pretrained(directory)
    return directory
