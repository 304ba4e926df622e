"""A queue of copies that makes each as late as its rules allow, as a card may, so that the CPU finds a missing wait."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from toolkit.memory.side_stream import SideStream

GARBAGE = 0xFF  # NaN in every float format of ours
When = Literal["early", "late", "random"]


class TornCopy(AssertionError):
    """Somebody wrote what a copy that was under way reads or fills."""


@dataclass
class _Queued:
    """A copy that has been asked for; `content` is what its source holds when it is the copy's turn."""

    target: Tensor
    source: Tensor
    content: Tensor


class LateStream(SideStream):
    """The same promises, kept to the letter and no further: until a copy is made, its target is garbage.

    As on a card, copies are made in the order of the queue. On a card a copy reads its source and fills its target at
    any time between `copy` and `wait`: both must stay as they are in between.

    Args:
        when: `early`, at once; `late`, when it is waited for; `random`, at any call in between.
        seed: for `random`.
        forgotten: a bug that is planted: the wait of this number does nothing. Waits are counted from 0, those
            that have nothing left to wait for are left out.

    Attributes:
        num_waits: waits so far that had something to wait for.
    """

    def __init__(self, when: When, *, seed: int = 0, forgotten: int | None = None) -> None:
        super().__init__(torch.device("cpu"))
        self.when = when
        self.forgotten = forgotten
        self.num_waits = 0
        self._random = random.Random(seed)
        self._queue: list[_Queued] = []
        self._num_made = 0

    @property
    def under_way(self) -> int:
        """Copies that nobody has waited for yet and that are not made."""
        return len(self._queue)

    def copy(self, target: Tensor, source: Tensor) -> int:  # type: ignore[override]
        """See SideStream."""
        content = self._content(source)
        while any(_place(queued.target) == _place(target) for queued in self._queue):
            self._make_next()
        _bytes(target).fill_(GARBAGE)
        self._queue.append(_Queued(target, source, content))
        token = self._num_made + len(self._queue)
        self._pass_time()
        return token

    def wait(self, copied: int | None) -> None:  # type: ignore[override]
        """See SideStream."""
        assert copied is not None, "each copy gives something to wait for"
        if copied > self._num_made:
            self.num_waits += 1
            if self.num_waits - 1 == self.forgotten:
                return
        while self._num_made < copied:
            self._make_next()
        self._pass_time()

    def finish(self) -> None:
        """See SideStream."""
        while self._queue:
            self._make_next()

    def _pass_time(self) -> None:
        due = {"early": len(self._queue), "late": 0, "random": self._random.randint(0, len(self._queue))}
        for _ in range(due[self.when]):
            self._make_next()

    def _content(self, source: Tensor) -> Tensor:
        for queued in reversed(self._queue):
            if _place(queued.target) == _place(source):
                return queued.content
        return source.clone()

    def _make_next(self) -> None:
        queued = self._queue.pop(0)
        if not torch.equal(_bytes(queued.source), _bytes(queued.content)):
            raise TornCopy("what a copy reads was changed before it was made")
        if not bool((_bytes(queued.target) == GARBAGE).all()):
            raise TornCopy("what a copy fills was written by another before it was made")
        queued.target.copy_(queued.source)
        self._num_made += 1


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)
