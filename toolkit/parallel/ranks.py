"""The rank of this process in a run, and operations across all ranks. Usually there is only one process."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeVar

from toolkit.errors import UserError
from toolkit.parallel.board import Fate
from toolkit.parallel.launcher import find_launch
from toolkit.parallel.processes import ProcessRanks

if TYPE_CHECKING:  # a check knows the ranks, and loads no torch
    from torch import Tensor

T = TypeVar("T")


class Ranks(Protocol):
    """The processes of one run, numbered from 0. All ranks must make the same calls in the same order.

    Attributes:
        rank: number of this process.
        world: number of processes.
        local_rank: number of this process among those of its machine.
        local_world: number of processes on this machine.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        ...

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether `flag` is True on at least one rank."""
        ...

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """For each of the flags, which every rank gives in the same order, whether it is True on at least one."""
        ...

    def gather(self, text: str) -> list[str]:
        """The text of every rank, by rank."""
        ...

    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""
        ...

    def joint_step(self) -> AbstractContextManager[None]:
        """A `with` block for a step in which every rank computes with what the others hold, so that none may hang."""
        ...

    def before_end(self, last_words: Callable[[Fate], list[str]]) -> None:
        """Have `last_words` called, in a thread, before this process is ended together with the others.

        It writes the reason down, and returns lines for the user that follow the reason.
        """
        ...

    def end_all(self, text: str, code: int, *, is_effect: bool, is_common: bool = False) -> None:
        """End all processes. One of them tells the user why. Does not return, unless there is only one process.

        Args:
            text: the reason.
            code: exit code of the processes.
            is_common: whether all ranks have found it together; otherwise the message names this one.
            is_effect: whether this rank was merely told to end, so that another may know a better reason.
        """
        ...

    def close(self) -> None:
        """Part from the other ranks, once all have reached this call."""
        ...


class OneProcess:
    """A run with a single process: no communication, no waiting."""

    rank = 0
    world = 1
    local_rank = 0
    local_world = 1
    is_first = True

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""

    def any(self, flag: bool) -> bool:
        """See Ranks."""
        return flag

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """See Ranks."""
        return list(flags)

    def gather(self, text: str) -> list[str]:
        """See Ranks."""
        return [text]

    def barrier(self) -> None:
        """See Ranks."""

    def joint_step(self) -> AbstractContextManager[None]:
        """See Ranks."""
        return nullcontext()

    def before_end(self, last_words: Callable[[Fate], list[str]]) -> None:
        """See Ranks."""

    def end_all(self, text: str, code: int, *, is_effect: bool, is_common: bool = False) -> None:
        """See Ranks."""

    def close(self) -> None:
        """See Ranks."""


class PlannedRanks(OneProcess):
    """The first of several ranks that will be started elsewhere, as a check here plans for them.

    Args:
        local_world: number of processes on each machine.
        machines: number of machines.
    """

    def __init__(self, local_world: int, machines: int = 1) -> None:
        self.local_world = local_world
        self.world = local_world * machines


@cache
def find_ranks() -> Ranks:
    """The processes of this run, the same value each time.

    Raises:
        UserError: a launcher has started several processes, but has not told them how to find each other.
    """
    launch = find_launch()
    return ProcessRanks(launch) if launch is not None else OneProcess()


def part_from(ranks: Ranks, code: int) -> int:
    """Part from the other ranks, once all have reached this call.

    One of several processes ends here. Threads of torch's groups outlive them, and one that wakes up while Python is
    being torn down aborts the process ("terminate called without an active exception"): seen once in 30 sharded runs,
    whose work was done, and whose launcher reported a failure.

    Returns:
        `code`, with which a single process should end.
    """
    has_others = ranks.world > 1
    ranks.close()
    if has_others:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    return code


def first_complaint(ranks: Ranks, text: str) -> str:
    """What is wrong on the first of the ranks where something is, so that all end with one message.

    Args:
        ranks: the processes of the run, which all call this.
        text: what is wrong on this rank; empty if nothing is.

    Returns:
        The text to print, with the rank and its machine if not all say the same; empty if nothing is wrong anywhere.
    """
    if ranks.world == 1:
        return text
    told = [json.loads(answer) for answer in ranks.gather(json.dumps([socket.gethostname(), text]))]
    for rank, (host, complaint) in enumerate(told):
        if complaint:
            is_common = all(other == complaint for _, other in told)
            return str(complaint) if is_common else f"rank {rank} ({host}): {complaint}"
    return ""


def on_all(ranks: Ranks, work: Callable[[], T]) -> T:
    """Let every rank do what a mistake of the user's may prevent. Where it fails on one rank, it fails on all.

    Raises:
        UserError: what `work` has raised on the first rank that it failed on.
    """
    if ranks.world == 1:
        return work()
    answer, complaint = [], ""
    try:
        answer.append(work())
    except UserError as error:
        complaint = str(error)
    if complaint := first_complaint(ranks, complaint):
        raise UserError(complaint)
    return answer[0]


class RankFailed(RuntimeError):
    """Raised on a rank that waits for another one, which has failed and says why."""


class FirstRankFailed(RankFailed):
    """The one that has failed is the first."""


_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "NCCL", "process group")


def is_lost_connection(error: BaseException) -> bool:
    """Whether torch says with this error that another rank has gone in the middle of what all ranks do together."""
    return type(error).__name__ in ("RuntimeError", "DistBackendError", "DistNetworkError") and any(
        word in str(error) for word in _LOST
    )


def done_by_first(ranks: Ranks, work: Callable[[], T]) -> T | None:
    """Let the first rank do what is done once for all, such as moving files, while the others wait.

    Returns:
        What `work` returns; None on the other ranks.

    Raises:
        FirstRankFailed: on the other ranks, if `work` has raised anything on the first.
    """
    answer = None
    with first_goes_ahead(ranks):
        if ranks.is_first:
            answer = work()
    return answer


def done_together(ranks: Ranks, work: Callable[[], T]) -> T:
    """Let every rank do its part of what only succeeds as a whole.

    Returns:
        What `work` returns.

    Raises:
        RankFailed: if `work` has raised anything on another rank, but not here.
    """
    has_failed = True
    try:
        answer = work()
        has_failed = False
    finally:
        is_lost = ranks.any(has_failed)
    if is_lost:
        raise RankFailed("another rank has failed")
    return answer


@contextmanager
def first_goes_ahead(ranks: Ranks) -> Iterator[None]:
    """A `with` block that the first rank carries out before the others, which then find what it has left on disk.

    Raises:
        FirstRankFailed: on the other ranks, which skip the block, if the first has left it with an exception.
    """
    if not ranks.is_first:
        if ranks.any(False):
            raise FirstRankFailed("the first rank has failed")
        yield
        return
    has_failed = True
    try:
        yield
        has_failed = False
    finally:
        ranks.any(has_failed)  # the others wait here, and would for ever
