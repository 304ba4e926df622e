"""Groups examples into batches: one size per batch, nothing dropped, a new order every epoch.

Examples whose references differ in size or number go into different batches, too. The alternative, padding and
masking, would train on sequences that never occur at inference, waste compute on padding, and need attention masks,
which rule out the fastest attention kernels. Also, position ids are shared by the whole batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Protocol

from toolkit.data.examples import Example, Layout

Group = tuple[Layout, float, bool, bool]


class Orders(Protocol):
    """Source of random orders, such as `toolkit.randomness.Draws`. A protocol, so that counting needs no torch."""

    def python(self, purpose: str, *counters: int | str) -> Random:
        """A generator that depends only on its arguments."""
        ...


class BatchPlan:
    """The endless sequence of a job's batches. Any batch can be requested at any time, in any order.

    All examples of a batch share one bucket and the sizes of their references. The last batch of a bucket may be
    smaller. As in ai-toolkit, every second step trains on regularisation images, however many of them there are, if
    there are both regularisation images and others.
    """

    def __init__(
        self, examples: Sequence[Example], batch_size: int, draws: Orders, *, batches_per_step: int = 1
    ) -> None:
        assert examples and batch_size >= 1, (len(examples), batch_size)
        self.examples = examples
        self.batches_per_step = batches_per_step
        indices = {is_reg: [n for n, one in enumerate(examples) if one.is_reg == is_reg] for is_reg in (False, True)}
        kinds = {False: "order", True: "order of regularisation images"}
        self._streams = [
            _Epochs(examples, indices[is_reg], batch_size, draws, kinds[is_reg]) for is_reg in kinds if indices[is_reg]
        ]

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over all images; regularisation images only count if there are no others."""
        return self._streams[0].length

    def batch(self, index: int) -> tuple[int, ...]:
        """Indices into `examples` of the members of batch `index`, counted from 0 over the whole job."""
        step, part = divmod(index, self.batches_per_step)
        turn, which = divmod(step, len(self._streams))
        return self._streams[which].batch(turn * self.batches_per_step + part)

    def epochs_done(self, steps: int) -> int:
        """Number of complete epochs after this many steps."""
        turns = -(-steps // len(self._streams))
        return turns * self.batches_per_step // self.batches_per_epoch


class _Epochs:
    """The batches of a subset of the examples, epoch after epoch."""

    def __init__(
        self, examples: Sequence[Example], indices: Sequence[int], batch_size: int, draws: Orders, purpose: str
    ) -> None:
        self.batch_size = batch_size
        self.draws = draws
        self.purpose = purpose
        self.length = count_batches([examples[index] for index in indices], batch_size)
        self._groups: dict[Group, list[int]] = {}
        for index in indices:
            self._groups.setdefault(_group(examples[index]), []).append(index)
        self._epoch = -1
        self._batches: list[tuple[int, ...]] = []

    def batch(self, index: int) -> tuple[int, ...]:
        """Batch `index` of this subset, counted from 0."""
        epoch, number = divmod(index, self.length)
        if epoch != self._epoch:
            self._batches = self._order(epoch)
            self._epoch = epoch
        return self._batches[number]

    def _order(self, epoch: int) -> list[tuple[int, ...]]:
        random = self.draws.python(self.purpose, epoch)
        batches = []
        for group in sorted(self._groups):
            members = list(self._groups[group])
            random.shuffle(members)
            size = self.batch_size
            batches += [tuple(members[start : start + size]) for start in range(0, len(members), size)]
        random.shuffle(batches)
        return batches


def count_batches(examples: Sequence[Example], batch_size: int) -> int:
    """Number of batches in one epoch; each bucket is rounded up to whole batches."""
    sizes = Counter(_group(example) for example in examples)
    return sum(-(-size // batch_size) for size in sizes.values())


def _group(example: Example) -> Group:
    # References are dropped for a whole batch at once, so its examples must share the dropout rate. The same holds for
    # the images that adapters see: a batch has them, or not.
    return example.layout, example.reference_dropout_rate, example.is_reg, example.view is not None
