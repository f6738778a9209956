"""What the language model says by itself: what is heard in training is not unlearned."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from nextgpt.data.conversations import ConversationSource
from nextgpt.media.base import atomic_path
from nextgpt.messages import Conversation, Message
from nextgpt.sources import cache_dir

if TYPE_CHECKING:
    from nextgpt.model import NextGPTModel

logger = logging.getLogger(__name__)

BATCH_SIZE = 32


class OwnWords(ConversationSource):
    """Prose, and questions with their answers, all sampled from the frozen language model.

    A language model that learns from dialogues about media alone forgets how it spoke before. Its
    own words stand for what it was trained on, which nobody has at hand.

    Source: arXiv:2406.08464 (questions written by the model itself, behind the user's header).
    """

    def __init__(self, num_texts: int = 256, num_tokens: int = 160, seed: int = 0) -> None:
        """Choose how much is said.

        Args:
            num_texts: Pieces of prose, and as many questions.
            num_tokens: Of a piece of prose, and of an answer, at most.
            seed: Of the sampling.
        """
        self.num_texts = num_texts
        self.num_tokens = num_tokens
        self.seed = seed
        self.texts: list[list[str]] = []
        """A piece of prose, or a question and its answer, each."""

    def prepare(self, chain: NextGPTModel) -> None:
        """Let the model speak without its adapter; what it said is kept in the user's cache."""
        model = chain.language_model
        recipe = [model.source, model.template, self.num_texts, self.num_tokens, self.seed]
        digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
        path = cache_dir() / "own_words" / f"{digest}.json"
        if not path.exists():
            logger.info("the language model speaks by itself (once)")
            with torch.random.fork_rng(devices=[]), model.without_lora():
                torch.manual_seed(self.seed)
                texts = [*self._prose(chain), *self._questions(chain)]
            with atomic_path(path) as partial:
                partial.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
        self.texts = json.loads(path.read_text(encoding="utf-8"))

    def _prose(self, chain: NextGPTModel) -> list[list[str]]:
        tokenizer = chain.language_model.tokenizer
        start = tokenizer.convert_tokens_to_ids(tokenizer.unk_token or tokenizer.eos_token)
        found = self._continued(chain, [[start]] * self.num_texts, "prose")
        return [[text] for text in found if text]

    def _questions(self, chain: NextGPTModel) -> list[list[str]]:
        header, _ = chain.prompter.template.user
        start = chain.language_model.tokenizer.encode(header, add_special_tokens=False)
        asked = self._continued(chain, [start] * self.num_texts, "questions")
        questions = [question for question in asked if question]
        plans = [
            chain.prompter.generation_plan(Conversation().user(question), self.num_tokens)
            for question in questions
        ]
        answers = self._continued(chain, [plan.input_ids.tolist() for plan in plans], "answers")
        pairs = zip(questions, answers, strict=True)
        return [[question, answer] for question, answer in pairs if answer]

    @torch.inference_mode()
    def _continued(
        self, chain: NextGPTModel, prompts: Sequence[Sequence[int]], what: str
    ) -> list[str]:
        """Sample what follows each prompt, up to the end of the turn."""
        model, end_id = chain.language_model, chain.prompter.end_id
        texts = []
        # Prompts of similar length share a batch.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for start in tqdm(range(0, len(order), BATCH_SIZE), f"own words: {what}", unit="batch"):
            batch = [list(prompts[index]) for index in order[start : start + BATCH_SIZE]]
            length = max(map(len, batch))
            input_ids = torch.tensor([[end_id] * (length - len(ids)) + ids for ids in batch])
            mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in batch])
            written = model.llm.generate(
                input_ids=input_ids,
                attention_mask=mask,
                max_new_tokens=self.num_tokens,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                eos_token_id=end_id,
                pad_token_id=end_id,
            )
            texts += model.tokenizer.batch_decode(written[:, length:], skip_special_tokens=True)
        by_place = dict(zip(order, texts, strict=True))
        return [by_place[index].strip() for index in range(len(prompts))]

    def conversation(self, index: int) -> Conversation:
        """Return text number ``index``, in an order of each round's own."""
        assert self.texts, "prepare comes first"
        round_number, position = divmod(index, len(self.texts))
        order = random.Random(f"{self.seed} {round_number}").sample(
            range(len(self.texts)), len(self.texts)
        )
        *question, answer = self.texts[order[position]]
        asked = [Message("user", list(question))] if question else []
        return Conversation([*asked, Message("assistant", [answer])])

    def provenance(self) -> dict[str, Any]:
        """The number of texts as well."""
        return super().provenance() | {"texts": len(self.texts)}
