"""The rank of this process in a run, and operations across all ranks. Usually there is only one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Ranks(Protocol):
    """The processes of one run, numbered from 0. All ranks must make the same calls in the same order.

    Attributes:
        rank: number of this process.
        world: number of processes.
    """

    rank: int
    world: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        ...

    def sum(self, number: int) -> int:
        """The sum of `number` over all ranks."""
        ...

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether `flag` is True on at least one rank."""
        ...

    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""
        ...


class OneProcess:
    """A run with a single process: no communication, no waiting."""

    rank = 0
    world = 1
    is_first = True

    def sum(self, number: int) -> int:
        """See Ranks."""
        return number

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""

    def any(self, flag: bool) -> bool:
        """See Ranks."""
        return flag

    def barrier(self) -> None:
        """See Ranks."""
