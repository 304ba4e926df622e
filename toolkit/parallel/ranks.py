"""Which of the processes of a run this is, and what they do together. One process is the usual case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a check knows the ranks, and loads no torch
    from torch import Tensor


class Ranks(Protocol):
    """The processes of one run, counted from 0. Every rank makes the same calls in the same order.

    Attributes:
        rank: number of this process.
        world: how many there are.
    """

    rank: int
    world: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        ...

    def sum(self, number: int) -> int:
        """The sum of every rank's number."""
        ...

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether the flag of at least one rank is True."""
        ...

    def barrier(self) -> None:
        """Wait until every rank has come this far."""
        ...


class OneProcess:
    """A run of a single process: nothing is sent, and nobody waits."""

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
