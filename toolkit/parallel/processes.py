"""The ranks of a run of several processes, which torch.distributed connects: gloo on the CPU, NCCL on CUDA."""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.parallel.launcher import Launch

if TYPE_CHECKING:
    from torch import Tensor

JOIN_S = 600.0
"""How long a process waits for the others to start, in seconds."""
BUCKET_BYTES = 1 << 26
"""Tensors are summed in parts of this size, so that a sum needs little memory of its own."""
# What a wait may be is judged elsewhere: a collective also waits while the first rank encodes, saves or samples.
_COLLECTIVE = datetime.timedelta(days=7)


class ProcessRanks:
    """See Ranks. The processes meet at the first call that needs all of them; until then torch is not imported."""

    def __init__(self, launch: Launch) -> None:
        self.rank = launch.rank
        self.world = launch.world
        self.local_rank = launch.local_rank
        self.local_world = launch.local_world
        self._launch = launch

    @property
    def is_first(self) -> bool:
        """See Ranks."""
        return self.rank == 0

    def sum(self, number: int) -> int:
        """See Ranks."""
        torch = self._joined()
        total = torch.tensor([number], dtype=torch.int64)
        torch.distributed.all_reduce(total)
        return int(total)

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        torch = self._joined()
        with torch.no_grad():
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
        return self.any_of([flag])[0]

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """See Ranks."""
        torch = self._joined()
        found = torch.tensor(flags, dtype=torch.uint8)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def gather(self, text: str) -> list[str]:
        """See Ranks."""
        torch = self._joined()
        mine = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        torch.distributed.all_gather(sizes, torch.tensor([len(mine)]))
        room = int(max(sizes))
        padded = torch.zeros(room, dtype=torch.uint8)
        padded[: len(mine)] = mine
        found = [torch.zeros_like(padded) for _ in range(self.world)]
        torch.distributed.all_gather(found, padded)
        texts = [bytes(part[: int(size)].tolist()).decode() for part, size in zip(found, sizes, strict=True)]
        return [found.strip(" ") if found == " " else found for found in texts]

    def barrier(self) -> None:
        """See Ranks."""
        self.any(False)

    @functools.cached_property
    def _torch(self) -> Any:
        """Torch, with the process group of the run."""
        import torch  # so late, because a check calls none of this
        from torch.distributed.distributed_c10d import PrefixStore

        has_cuda = torch.cuda.is_available()
        store = self._store(torch)
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
            store=PrefixStore("group", store),
            rank=self.rank,
            world_size=self.world,
            timeout=_COLLECTIVE,
        )
        return torch

    def _joined(self) -> Any:
        return self._torch

    def _store(self, torch: Any) -> Any:
        """Names and values that all processes share. Torchrun hosts them; without it, the first rank does."""
        is_hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return torch.distributed.TCPStore(
            self._launch.address,
            self._launch.port,
            None if is_hosted else self.world,
            is_master=self.is_first and not is_hosted,
            timeout=datetime.timedelta(seconds=JOIN_S),
            wait_for_workers=not is_hosted,
        )


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
