"""Which conversations come, in which order, and which of them share a batch."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from torch.utils.data import Dataset, IterableDataset

from nextgpt.data.conversations import ConversationSource
from nextgpt.data.sampling import Rule, mixing_weights
from nextgpt.messages import Conversation
from nextgpt.prompting import SequencePlan


class Mixture(Dataset):
    """Conversations of several sources in given shares; number ``index`` is always the same."""

    def __init__(
        self,
        sources: Sequence[ConversationSource],
        weights: Sequence[float] | Rule | None,
        seed: int,
        size: int,
    ) -> None:
        """Join sources.

        Args:
            sources: Where conversations come from.
            weights: Relative share of each source, or the rule that makes shares of sizes; equal
                where None.
            seed: Of the choice of source.
            size: Number of conversations.

        Raises:
            ValueError: weights are missing.
        """
        self.sources, self.seed, self.size = sources, seed, size
        self._weights = [1.0] * len(sources) if weights is None else weights
        if not isinstance(self._weights, str) and len(self._weights) != len(sources):
            raise ValueError(
                f"{len(self._weights)} weights for {len(sources)} training sources; give one each"
            )

    @cached_property
    def weights(self) -> Sequence[float]:
        """Relative share of each source; by a rule they need the sources' files.

        Raises:
            ValueError: a rule is unknown, or wants the size of a source that has none.
        """
        if not isinstance(self._weights, str):
            return self._weights
        return mixing_weights(self._weights, [source.size() for source in self.sources])

    def __len__(self) -> int:
        """Number of conversations."""
        return self.size

    def __getitem__(self, index: int) -> Conversation:
        """Return conversation number ``index``."""
        chosen = random.Random(f"{self.seed} {index}").choices(self.sources, self.weights)[0]
        return chosen.conversation(index)


class SimilarLengths(IterableDataset):
    """Endless batches of plans that are about as long as each other: padding costs time.

    Plans are made ``window`` batches at a time, sorted by length, and their batches taken in random
    order. Of several ranks each takes its share of every batch, so that their plans together are
    those of a single process, and any number of ranks goes on where any other stopped.

    Of several kinds of plans each has windows of its own, and their batches take turns: number
    ``i`` is of kind ``i`` modulo their number.
    """

    WINDOW: ClassVar[int] = 8

    def __init__(
        self,
        plans: Sequence[Callable[[int], SequencePlan]],
        batch_size: int,
        seed: int,
        window: int = WINDOW,
        by_modality: bool = False,
    ) -> None:
        """Start at the beginning, as the only rank.

        Args:
            plans: Each makes the plan of conversation 0, 1, 2 ... of one kind.
            batch_size: Plans a batch of one rank.
            seed: Of the batches' order.
            window: Batches that are sorted together; with 1 their plans are not of similar length.
            by_modality: Sort plans of text alone before those with media, so that at most one
                batch of a window holds both.
        """
        self.plans, self.rank_batch_size, self.seed, self.window = plans, batch_size, seed, window
        self.by_modality = by_modality
        self.rank, self.num_ranks = 0, 1
        self.first, self.num_taken = 0, 0

    @property
    def batch_size(self) -> int:
        """Plans a batch of all ranks together."""
        return self.rank_batch_size * self.num_ranks

    def __iter__(self) -> Iterator[list[SequencePlan]]:
        """Go on behind the batches taken."""
        num_windows, num_batches = divmod(self.num_taken, self.window * len(self.plans))
        size = self.window * self.batch_size
        for start in itertools.count(self.first + num_windows * size, size):
            rng = random.Random(f"{self.seed} {start}")
            windows = [self._window(plan, start, rng) for plan in self.plans]
            batches = [batch for turn in zip(*windows, strict=True) for batch in turn]
            for batch in batches[num_batches:]:
                yield batch[self.rank :: self.num_ranks]
            num_batches = 0

    def _window(
        self, plan: Callable[[int], SequencePlan], start: int, rng: random.Random
    ) -> list[list[SequencePlan]]:
        size = self.window * self.batch_size
        plans = sorted(map(plan, range(start, start + size)), key=self._place_in_window)
        batches = [plans[at : at + self.batch_size] for at in range(0, size, self.batch_size)]
        rng.shuffle(batches)
        return batches

    def _place_in_window(self, plan: SequencePlan) -> tuple[bool, int]:
        has_media = bool(plan.slots or plan.runs)
        return self.by_modality and has_media, len(plan.input_ids)

    @property
    def _windows(self) -> dict[str, Any]:
        """What two runs must share for one to go on within a window of the other."""
        return {
            "batch_size": self.batch_size,
            "window": self.window,
            "num_kinds": len(self.plans),
            "by_modality": self.by_modality,
        }

    def place(self, num_new: int) -> dict[str, Any]:
        """Describe the place behind ``num_new`` more batches, for ``go_to``."""
        return {"first": self.first, "num_taken": self.num_taken + num_new, **self._windows}

    def go_to(self, place: Mapping[str, Any]) -> None:
        """Go on there; with batches of another size or kind, at the start of its window."""
        self.first, self.num_taken = place["first"], place["num_taken"]
        # What places did not tell when there was nothing else.
        windows = {"window": self.WINDOW, "num_kinds": 1, "by_modality": False, **place}
        if any(windows[name] != value for name, value in self._windows.items()):
            num_windows = self.num_taken // (windows["window"] * windows["num_kinds"])
            self.first += num_windows * windows["window"] * windows["batch_size"]
            self.num_taken = 0
