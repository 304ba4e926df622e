"""Weights whose rows are spread over the ranks: which rows a rank holds, and how a whole weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from toolkit.parallel.deferred import defer, value_of
from toolkit.parallel.ranks import Ranks, done_by_first, done_together
from toolkit.parallel.weight_layout import Piece, rows_of

T = TypeVar("T")


class Shards:
    """See WeightLayout: each rank holds some rows of every weight.

    Adapters beside the model, which are small and run on some ranks only, are whole on every rank. Of these, too, a
    rank updates and saves its own rows only, and `publish` makes them whole again.

    Attributes:
        ranks: the processes of the run.
        mesh: the same, as torch names them.
    """

    is_whole = False

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        ranks.barrier()  # the processes have met
        self.ranks = ranks
        self.is_first = ranks.is_first
        self.position = ranks.rank
        self.count = ranks.world
        self.mesh: DeviceMesh = init_device_mesh(device.type, (ranks.world,))

    def spread(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """The tensor of shape `shape` of which this rank holds `rows`, and every other rank its own."""
        stride = torch.empty(tuple(shape), device="meta").stride()
        found: Tensor = DTensor.from_local(
            rows, self.mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
        )
        return found

    def local(self, tensor: Tensor) -> Tensor:
        """See WeightLayout."""
        tensor = tensor.detach()
        found: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor[self.cut(tensor.shape[0])]
        return found

    def publish(self, weights: Sequence[Tensor]) -> None:
        """See WeightLayout."""
        copies = [weight.detach() for weight in weights if not self.is_spread(weight)]
        parts = [torch.zeros_like(copy) for copy in copies]
        for copy, part in zip(copies, parts, strict=True):
            rows = self.cut(len(copy))
            part[rows] = copy[rows]
        self.ranks.sum_tensors(parts)
        for copy, part in zip(copies, parts, strict=True):
            copy.copy_(part)

    def whole(self, tensor: Tensor) -> Tensor:
        """See WeightLayout."""
        tensor = value_of(tensor.detach())
        found: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        return found

    def deferred(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See WeightLayout."""
        return {name: defer(tensor, partial(self.whole, tensor)) for name, tensor in tensors.items()}

    def own(self, weights: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """See WeightLayout. Gradients arrive in the weights, and must be handed on."""
        return [nn.Parameter(self.local(weight), requires_grad=weight.requires_grad) for weight in weights]

    def is_spread(self, weight: Tensor) -> bool:
        """See WeightLayout."""
        return isinstance(weight, DTensor)

    def piece(self, weight: Tensor) -> Piece:
        """See WeightLayout."""
        return Piece(tuple(weight.shape), self.cut(weight.shape[0]))

    def cut(self, num_rows: int) -> slice:
        """See WeightLayout: rows as `torch.chunk` deals them; the last ranks may have none."""
        return rows_of(num_rows, self.position, self.count)

    def any(self, flag: bool) -> bool:
        """See WeightLayout."""
        return self.ranks.any(flag)

    def gather(self, text: str) -> list[str]:
        """See WeightLayout."""
        return self.ranks.gather(text)

    def by_first(self, work: Callable[[], T]) -> T | None:
        """See WeightLayout."""
        return done_by_first(self.ranks, work)

    def together(self, work: Callable[[], T]) -> T:
        """See WeightLayout."""
        return done_together(self.ranks, work)
