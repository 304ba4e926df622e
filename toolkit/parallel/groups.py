"""Ranks in groups: the processes of a group share each sequence, and train on the same batches as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from toolkit.parallel.board import Fate
from toolkit.parallel.ranks import Ranks

if TYPE_CHECKING:
    from torch import Tensor


class GroupedRanks:
    """The groups of a run as its ranks: batches are dealt to groups, and what a group has computed counts once.

    Args:
        ranks: the processes of the run. Neighbours form a group.
        size: number of processes in a group; divides the number of processes.
    """

    def __init__(self, ranks: Ranks, size: int) -> None:
        assert ranks.world % size == 0, "the check has refused other numbers"
        self.ranks = ranks
        self.size = size
        self.rank = ranks.rank // size
        self.world = ranks.world // size
        self.local_rank = ranks.local_rank
        self.local_world = ranks.local_world

    @property
    def is_first(self) -> bool:
        """See Ranks."""
        return self.ranks.is_first

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks. The processes of a group must have the same tensors."""
        self.ranks.sum_tensors(tensors)
        for tensor in tensors:
            tensor.div_(self.size)

    def any(self, flag: bool) -> bool:
        """See Ranks."""
        return self.ranks.any(flag)

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """See Ranks."""
        return self.ranks.any_of(flags)

    def gather(self, text: str) -> list[str]:
        """See Ranks. The text of every process."""
        return self.ranks.gather(text)

    def barrier(self) -> None:
        """See Ranks."""
        self.ranks.barrier()

    def joint_step(self) -> AbstractContextManager[None]:
        """See Ranks."""
        return self.ranks.joint_step()

    def before_end(self, last_words: Callable[[Fate], list[str]]) -> None:
        """See Ranks."""
        self.ranks.before_end(last_words)

    def end_all(self, text: str, code: int, *, is_effect: bool, is_common: bool = False) -> None:
        """See Ranks."""
        self.ranks.end_all(text, code, is_effect=is_effect, is_common=is_common)

    def close(self) -> None:
        """See Ranks."""
        self.ranks.close()


def grouped(ranks: Ranks, size: int) -> Ranks:
    """The ranks in groups of `size`; as they are if they cannot be grouped."""
    return GroupedRanks(ranks, size) if size > 1 and ranks.world > 1 and ranks.world % size == 0 else ranks
