"""Which examples make which batch: sizes never mixed, nothing dropped, a new order every epoch.

References of other sizes, or another number of them, make another batch too. The alternative, padding and masking,
would show the model sequences it never sees when drawing, compute the padding, and need attention masks, which switch
off the fastest attention kernels; and positions belong to a whole batch, not to each of its samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Protocol

from toolkit.data.examples import Example, Layout

Group = tuple[Layout, float, bool]


class Orders(Protocol):
    """Where the orders come from; `toolkit.randomness.Draws` is one. Named here so that counting needs no torch."""

    def python(self, purpose: str, *counters: int | str) -> Random:
        """A generator that depends on nothing but its arguments."""
        ...


class BatchPlan:
    """The batches of a job, without end. Any of them can be asked for at any time, in any order.

    A batch holds examples of one bucket, with references of the same sizes, either regularisation images or not. The
    last batch of a bucket may be short.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, draws: Orders) -> None:
        assert examples and batch_size >= 1, (len(examples), batch_size)
        self.examples = examples
        self.batch_size = batch_size
        self.draws = draws
        self.batches_per_epoch = count_batches(examples, batch_size)
        self._groups: dict[Group, list[int]] = {}
        for index, example in enumerate(examples):
            self._groups.setdefault(_group(example), []).append(index)
        self._epoch = -1
        self._batches: list[tuple[int, ...]] = []

    def batch(self, index: int) -> tuple[int, ...]:
        """Places in `examples` that make micro-batch `index` (counted from 0 over the whole job)."""
        epoch, place = divmod(index, self.batches_per_epoch)
        if epoch != self._epoch:
            self._batches = self._order(epoch)
            self._epoch = epoch
        return self._batches[place]

    def _order(self, epoch: int) -> list[tuple[int, ...]]:
        random = self.draws.python("order", epoch)
        batches = []
        for group in sorted(self._groups):
            members = list(self._groups[group])
            random.shuffle(members)
            size = self.batch_size
            batches += [tuple(members[start : start + size]) for start in range(0, len(members), size)]
        random.shuffle(batches)
        return batches


def count_batches(examples: Sequence[Example], batch_size: int) -> int:
    """Batches in one epoch: each bucket rounded up."""
    sizes = Counter(_group(example) for example in examples)
    return sum(-(-size // batch_size) for size in sizes.values())


def _group(example: Example) -> Group:
    # The references of a whole batch are dropped at once, hence their rate.
    return example.layout, example.reference_dropout_rate, example.is_reg
