"""Weights whose rows are spread over the ranks: which rows a rank holds, and how the whole weight is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard


def rows_of(num_rows: int, rank: int, world: int) -> slice:
    """The rows that a rank holds of a weight with `num_rows`: as `torch.chunk` deals them; none on the last if few."""
    each = -(-num_rows // world)
    return slice(min(rank * each, num_rows), min((rank + 1) * each, num_rows))


class Shards:
    """The ranks of a run as holders of rows.

    Attributes:
        rank: number of this process.
        world: number of processes.
        mesh: the processes, as torch names them; they have met.
    """

    def __init__(self, rank: int, world: int, device: torch.device) -> None:
        self.rank = rank
        self.world = world
        self.mesh: DeviceMesh = init_device_mesh(device.type, (world,))

    def cut(self, whole: Tensor) -> Tensor:
        """This rank's rows of a whole tensor, as a view."""
        return whole[rows_of(whole.shape[0], self.rank, self.world)]

    def spread(self, rows: Tensor, shape: Sequence[int]) -> DTensor:
        """The tensor of shape `shape` of which this rank holds `rows`, and every other rank its own."""
        stride = torch.empty(tuple(shape), device="meta").stride()
        found: DTensor = DTensor.from_local(
            rows, self.mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
        )
        return found


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this rank holds, in the same memory; all of it if it is not spread."""
    return tensor.detach().to_local() if isinstance(tensor, DTensor) else tensor.detach()


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor. If it is spread, all ranks must ask for it at the same time."""
    return tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def is_spread(tensors: Sequence[Tensor]) -> bool:
    """Whether ranks hold rows of these tensors; either all of them are spread or none is."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def own_rows(weights: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The trained weights as an optimizer sees them: what this rank holds, as ordinary parameters in the same memory.

    Weights that are not spread are returned as they are. Otherwise a change of a parameter changes the weight, but
    gradients must be handed on.
    """
    return [
        nn.Parameter(local(weight), requires_grad=weight.requires_grad) if isinstance(weight, DTensor) else weight
        for weight in weights
    ]
