"""Work between steps that the ranks share: dealt out where each can do a piece alone, done together where none can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from toolkit.parallel.ranks import OneProcess, Ranks, done_by_first

T = TypeVar("T")


@dataclass(frozen=True)
class Crew:
    """The ranks at work on a list of pieces, such as pictures. All of them make the same calls in the same order.

    Attributes:
        ranks: the processes of the run.
        is_joint: whether every piece needs all of them, because none holds all weights.
    """

    ranks: Ranks = field(default_factory=OneProcess)
    is_joint: bool = False

    @property
    def size(self) -> int:
        """Number of pieces that are made at a time."""
        return 1 if self.is_joint else self.ranks.world

    @property
    def position(self) -> int:
        """Which of these this process makes."""
        return 0 if self.is_joint else self.ranks.rank

    def any(self, flag: bool) -> bool:
        """Whether `flag` is True on at least one rank."""
        return self.ranks.any(flag)

    def any_within(self, flag: bool) -> bool:
        """The same in the middle of a piece, which ranks that make another one know nothing of."""
        return self.ranks.any(flag) if self.is_joint else flag

    def gather(self, text: str) -> list[str]:
        """What each of `size` pieces has become, in order."""
        return [text] if self.size == 1 else self.ranks.gather(text)

    def by_first(self, work: Callable[[], T]) -> T | None:
        """What `work` returns; the first rank does it while the others wait, see `done_by_first`."""
        return done_by_first(self.ranks, work)
