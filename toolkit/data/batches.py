"""Groups examples into batches: one size per batch, nothing dropped, a new order every epoch.

Examples whose references differ in size or number go into different batches, too. The alternative, padding and
masking, would train on sequences that never occur at inference, waste compute on padding, and need attention masks,
which rule out the fastest attention kernels. Also, position ids are shared by the whole batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from random import Random
from types import MappingProxyType
from typing import Protocol

from toolkit.config.dataset import DatasetConfig
from toolkit.data.examples import Example, Layout

Group = tuple[Layout, float, bool, bool, int, float]


class Orders(Protocol):
    """Source of random orders, such as `toolkit.randomness.Draws`. A protocol, so that counting needs no torch."""

    def python(self, purpose: str, *counters: int | str) -> Random:
        """A generator that depends only on its arguments."""
        ...


class BatchPlan:
    """The endless sequence of a job's batches. Any batch can be requested at any time, in any order.

    All examples of a batch share one bucket and the sizes of their references. The last batch of a bucket may be
    smaller. As in ai-toolkit, every second step trains on regularisation images, however many of them there are, if
    there are both regularisation images and others; datasets with a share of the steps have steps of their own.

    Args:
        examples: all examples of the job.
        batch_size: number of examples per batch, where a dataset has no number of its own.
        draws: source of the order.
        batches_per_step: number of batches of all ranks in a step.
        shares: index of a dataset -> its share of the steps, see `divide`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        draws: Orders,
        *,
        batches_per_step: int = 1,
        shares: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        assert examples and batch_size >= 1, (len(examples), batch_size)
        self.examples = examples
        self.batches_per_step = batches_per_step
        streams = divide(examples, shares)
        self._turns = Turns([stream.share for stream in streams])
        self._streams = [_Epochs(examples, one.indices, batch_size, draws, one.purpose) for one in streams]

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over all images that have no share; regularisation images count if there are no others.

        If all datasets have a share, those in one pass over the first.
        """
        return self._streams[0].length

    def batch(self, index: int) -> tuple[int, ...]:
        """Indices into `examples` of the members of batch `index`, counted from 0 over the whole job."""
        step, part = divmod(index, self.batches_per_step)
        which, turn = self._turns.at(step)
        return self._streams[which].batch(turn * self.batches_per_step + part)

    def epochs_done(self, steps: int) -> int:
        """Number of complete epochs after this many steps."""
        return self._turns.count(0, steps) * self.batches_per_step // self.batches_per_epoch


@dataclass(frozen=True)
class Stream:
    """Examples that are trained in steps of their own.

    Attributes:
        purpose: names the draws of its order.
        share: share of the steps, above 0, at most 1.
        indices: its members.
        dataset_index: its dataset; None for all datasets without a share.
    """

    purpose: str
    share: Fraction
    indices: tuple[int, ...]
    dataset_index: int | None = None


def shares_of(datasets: Sequence[DatasetConfig]) -> dict[int, float]:
    """The share of the steps of each dataset that has one, by its index."""
    return {
        index: dataset.share_of_steps for index, dataset in enumerate(datasets) if dataset.share_of_steps is not None
    }


def divide(examples: Sequence[Example], shares: Mapping[int, float]) -> list[Stream]:
    """The streams of a job: images without a share, regularisation images without one, then a stream for each share.

    The first two have what is left, half each. If nothing is without a share, shares count in proportion.

    Args:
        examples: all examples of the job.
        shares: index of a dataset -> its share of the steps; less than 1 in all if there are others.
    """
    indices: dict[tuple[int | None, bool], list[int]] = {}
    for number, one in enumerate(examples):
        key = (one.dataset_index, False) if one.dataset_index in shares else (None, one.is_reg)
        indices.setdefault(key, []).append(number)
    exact = {index: Fraction(str(shares[index])) for index, _ in indices if index is not None}
    others = [is_reg for is_reg in (False, True) if (None, is_reg) in indices]
    total = sum(exact.values(), Fraction(0))
    left = 1 - total
    assert left > 0 or not others, "shares are checked when the job file is read"
    purposes = {False: "order", True: "order of regularisation images"}
    found = [Stream(purposes[key], left / len(others), tuple(indices[None, key])) for key in others]
    for index, share in sorted(exact.items()):
        if share:
            own = share if others else share / total
            found.append(Stream(f"order of dataset {index}", own, tuple(indices[index, False]), index))
    return found


class Turns:
    """Which stream each step trains on: after any number of steps, each has had its share, to within one step or two.

    Each stream takes its part of the steps that those before it leave, evenly spread, so that a step's stream follows
    from its number.

    Args:
        shares: share of the steps of each stream; they add up to 1.
    """

    def __init__(self, shares: Sequence[Fraction]) -> None:
        left = [1 - sum(shares[:number], Fraction(0)) for number in range(len(shares))]
        self._parts = [share / rest for share, rest in zip(shares, left, strict=True)]
        assert self._parts[-1] == 1, shares

    def at(self, step: int) -> tuple[int, int]:
        """The stream of a step, and how many steps it has had before."""
        for number, part in enumerate(self._parts):
            before = ceil(step * part)
            if ceil((step + 1) * part) > before:
                return number, before
            step -= before
        raise AssertionError("the last stream takes all that is left")

    def count(self, stream: int, steps: int) -> int:
        """How many of the first `steps` steps a stream has."""
        for part in self._parts[:stream]:
            steps -= ceil(steps * part)
        return ceil(steps * self._parts[stream])


class _Epochs:
    """The batches of a subset of the examples, epoch after epoch."""

    def __init__(
        self, examples: Sequence[Example], indices: Sequence[int], batch_size: int, draws: Orders, purpose: str
    ) -> None:
        self._examples = examples
        self.batch_size = batch_size
        self.draws = draws
        self.purpose = purpose
        self.length = count_batches([examples[index] for index in indices], batch_size)
        self._groups: dict[Group, list[int]] = {}
        for index in indices:
            self._groups.setdefault(_group(examples[index]), []).append(index)
        self._ordered: tuple[int, list[tuple[int, ...]]] = (-1, [])

    def batch(self, index: int) -> tuple[int, ...]:
        """Batch `index` of this subset, counted from 0."""
        epoch, number = divmod(index, self.length)
        ordered = self._ordered  # one value, because two threads may ask for batches of two epochs
        if ordered[0] != epoch:
            ordered = self._ordered = (epoch, self._order(epoch))
        return ordered[1][number]

    def _order(self, epoch: int) -> list[tuple[int, ...]]:
        random = self.draws.python(self.purpose, epoch)
        batches = []
        for group in sorted(self._groups):
            members = list(self._groups[group])
            random.shuffle(members)
            size = self._examples[members[0]].batch_size or self.batch_size
            batches += [tuple(members[start : start + size]) for start in range(0, len(members), size)]
        random.shuffle(batches)
        return batches


def count_batches(examples: Sequence[Example], batch_size: int) -> int:
    """Number of batches in one epoch; each bucket is rounded up to whole batches."""
    groups = Counter((_group(example), example.batch_size or batch_size) for example in examples)
    return sum(-(-count // size) for (_, size), count in groups.items())


def _group(example: Example) -> Group:
    # References are dropped for a whole batch at once, so its examples must share the dropout rate. The same holds for
    # the images that adapters see: a batch has them, or not. The network has one strength in a batch.
    return (
        example.layout,
        example.reference_dropout_rate,
        example.is_reg,
        example.view is not None,
        example.batch_size or 0,
        example.network_weight,
    )
