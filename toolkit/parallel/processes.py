"""The ranks of a run of several processes, which torch.distributed connects: gloo on the CPU, NCCL on CUDA."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError
from toolkit.parallel.board import Board, Fate
from toolkit.parallel.guard import Guard
from toolkit.parallel.launcher import Launch

if TYPE_CHECKING:
    from torch import Tensor

JOIN_S = 600.0
"""How long a process waits for the others to start, in seconds."""
# The guard judges what takes too long: a call also waits while the first rank encodes, saves or samples.
_CALL = datetime.timedelta(days=7)
# How long a rank that ends waits for a better reason than its own, in seconds: another may have been killed, and the
# launcher then stops the rest; the first rank speaks for all if it can, once it has written down how the run ends.
_STOP_S, _FIRST_S = 1.5, 60.0
BUCKET_BYTES = 1 << 26
"""Tensors are summed in parts of this size, so that a sum needs little memory of its own."""


class ProcessRanks:
    """See Ranks. The processes meet at the first call that needs all of them; until then torch is not imported."""

    def __init__(self, launch: Launch) -> None:
        self.rank = launch.rank
        self.world = launch.world
        self.local_rank = launch.local_rank
        self.local_world = launch.local_world
        self._launch = launch
        self._joined: _Joined | None = None

    @property
    def is_first(self) -> bool:
        """See Ranks."""
        return self.rank == 0

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        torch = self._join().torch
        with self._join().guard.wait.inside(is_patient=False), torch.no_grad():
            for bucket in _buckets(tensors):
                if len(bucket) == 1 and bucket[0].is_contiguous():
                    torch.distributed.all_reduce(bucket[0])
                    continue
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                torch.distributed.all_reduce(flat)
                for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                    tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """See Ranks."""
        return self._any([flag], is_patient=True)[0]

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """See Ranks."""
        found = self._any(flags, is_patient=False)
        self._join().guard.wait.stepped()
        return found

    def gather(self, text: str) -> list[str]:
        """See Ranks."""
        torch = self._join().torch
        mine = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)[: len(text.encode())]
        with self._join().guard.wait.inside(is_patient=True):
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            torch.distributed.all_gather(sizes, torch.tensor([len(mine)]))
            padded = torch.zeros(max(1, *map(int, sizes)), dtype=torch.uint8)
            padded[: len(mine)] = mine
            found = [torch.zeros_like(padded) for _ in range(self.world)]
            torch.distributed.all_gather(found, padded)
        return [part[: int(size)].numpy().tobytes().decode() for part, size in zip(found, sizes, strict=True)]

    def barrier(self) -> None:
        """See Ranks."""
        self.any(False)

    def joint_step(self) -> AbstractContextManager[None]:
        """See Ranks."""
        return self._join().guard.wait.joint_step()

    def before_end(self, last_words: Callable[[Fate], list[str]]) -> None:
        """See Ranks."""
        self._join().guard.last_words = last_words

    def end_all(self, text: str, code: int, *, is_effect: bool, is_common: bool = False) -> None:
        """See Ranks. A process that has not met the others ends alone: this returns."""
        if self._joined is None:
            return
        waits_s = (_STOP_S if self.is_first else _FIRST_S) if is_effect else (0.0 if self.is_first else _STOP_S)
        guard = self._joined.guard
        guard.end(text if is_common else f"{guard.name_of(self.rank)}: {text}", code, waits_s=waits_s)

    def close(self) -> None:
        """See Ranks."""
        if self._joined is None:
            return
        self.barrier()
        self._joined.guard.leave()
        self.barrier()  # the first rank may host the store, which the others need to leave
        self._joined.torch.distributed.destroy_process_group()
        self._joined = None

    def _any(self, flags: Sequence[bool], *, is_patient: bool) -> list[bool]:
        torch = self._join().torch
        found = torch.tensor(flags, dtype=torch.uint8)
        with self._join().guard.wait.inside(is_patient=is_patient):
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def _join(self) -> _Joined:
        """Meet the others, the first time."""
        if self._joined is None:
            self._joined = _join(self._launch)
        return self._joined


@dataclass(frozen=True)
class _Joined:
    """What exists once all processes have met: torch with their process group, and who watches them."""

    torch: Any
    guard: Guard


def _join(launch: Launch) -> _Joined:
    import torch  # so late, because a check needs none of this
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.distributed_c10d import PrefixStore

    is_hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun hosts it; else the first rank does
    limit = datetime.timedelta(seconds=JOIN_S)
    try:
        store = TCPStore(
            launch.address,
            launch.port,
            None if is_hosted else launch.world,
            is_master=launch.rank == 0 and not is_hosted,
            timeout=limit,
            wait_for_workers=False,
        )
        prefix = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store outlives a start
        board = Board.connect(launch.address, launch.port, prefix=prefix, rank=launch.rank, world=launch.world)
        board.introduce()
        guard = Guard(board, board.members(within_s=JOIN_S))
        guard.start()
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=PrefixStore(f"group{prefix}", store),
            rank=launch.rank,
            world_size=launch.world,
            timeout=_CALL,
        )
    except RuntimeError as error:
        raise UserError(
            f"rank {launch.rank} of {launch.world} could not connect to the others within {JOIN_S:g} s at "
            f"{launch.address}, port {launch.port}: {str(error).splitlines()[0]} Look for the first error that another "
            "rank printed, and check that the machines can reach each other (docs/multi-gpu.md)."
        ) from error
    return _Joined(torch, guard)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of one kind and of limited size, in an order that is the same on all ranks."""
    kinds: dict[tuple[Any, Any], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in kinds.values():
        bucket: list[Tensor] = []
        size = 0
        for tensor in alike:
            if bucket and size + tensor.nbytes > BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.nbytes
        yield bucket
