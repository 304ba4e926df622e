"""Ranks without processes: threads that meet, so that what two processes would do can be run in one test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from toolkit.parallel.board import Fate


@dataclass
class _Meeting:
    """Where threads leave what they bring and take what all brought."""

    world: int
    brought: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._barrier = threading.Barrier(self.world, timeout=60)

    def of_all(self, rank: int, value: Any) -> list[Any]:
        self.brought[rank] = value
        self._barrier.wait()
        values = [self.brought[other] for other in range(self.world)]
        self._barrier.wait()
        return values


class FakeRanks:
    """One of several ranks, each a thread."""

    def __init__(self, rank: int, world: int, meeting: _Meeting | None = None) -> None:
        self.rank = rank
        self.world = world
        self.local_rank = rank
        self.local_world = world
        self._meeting = meeting or _Meeting(world)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        brought = self._meeting.of_all(self.rank, [tensor.clone() for tensor in tensors])
        for mine, theirs in zip(tensors, zip(*brought, strict=True), strict=True):
            mine.copy_(torch.stack(theirs).sum(dim=0))

    def any(self, flag: bool) -> bool:
        return any(self._meeting.of_all(self.rank, flag))

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        return [any(column) for column in zip(*self._meeting.of_all(self.rank, list(flags)), strict=True)]

    def gather(self, text: str) -> list[str]:
        return self._meeting.of_all(self.rank, text)

    def barrier(self) -> None:
        self._meeting.of_all(self.rank, None)

    def joint_step(self) -> AbstractContextManager[None]:
        return nullcontext()

    def before_end(self, last_words: Callable[[Fate], list[str]]) -> None:
        pass

    def end_all(self, text: str, code: int, *, is_effect: bool, is_common: bool = False) -> None:
        pass

    def close(self) -> None:
        pass


def run_ranks(world: int, work: Callable[[FakeRanks], Any]) -> list[Any]:
    """What `work` returns on each rank, all of which run at the same time."""
    meeting, results = _Meeting(world), dict[int, Any]()

    def run(rank: int) -> None:
        results[rank] = work(FakeRanks(rank, world, meeting))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == world, "a rank has failed"
    return [results[rank] for rank in range(world)]
