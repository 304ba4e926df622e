"""Sharding of a model: its weights are loaded row by row, and gathered block by block while they are used (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from toolkit.parallel.weight_layout import WeightLayout
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.weights.streaming import Rows, Shapes

if TYPE_CHECKING:  # a single process loads nothing of torch.distributed
    from toolkit.parallel.shards import Shards


def rows_of_module(module: nn.Module, shards: Shards) -> Rows:
    """Cuts the tensors of a module, by name, to the rows of this rank. Buffers without a row per output stay whole."""

    def cut(name: str, tensor: Tensor) -> Tensor:
        owner, _, leaf = name.rpartition(".")
        layer = module.get_submodule(owner)
        has_rows = leaf in layer._parameters or (isinstance(layer, FrozenLinear) and leaf in layer.row_buffers)
        return tensor[shards.cut(tensor.shape[0])] if has_rows else tensor

    return cut


def parameter_shapes(module: nn.Module) -> Shapes:
    """Shapes of a module's parameters by name, before it is loaded."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def spread(module: nn.Module, shapes: Shapes, shards: Shards) -> None:
    """Turn the rows that were loaded into weights of their whole shape, of which each rank holds some rows.

    Args:
        module: a frozen module of which this rank has loaded its own rows.
        shapes: the whole shapes, from `parameter_shapes`.
        shards: the ranks.
    """
    for prefix, layer in module.named_modules():
        if isinstance(layer, FrozenLinear):
            layer.make_parameters()
        for leaf, rows in list(layer._parameters.items()):
            if rows is not None:
                known = shapes.get(f"{prefix}.{leaf}" if prefix else leaf)
                shape = known or (layer.out_features, *rows.shape[1:])  # a quantized weight has other names
                layer._parameters[leaf] = nn.Parameter(shards.spread(rows.detach(), shape), requires_grad=False)


def shard(module: nn.Module, blocks: Iterable[str], layout: WeightLayout) -> None:
    """Let each block gather its weights while it runs. Gradients are summed over the ranks, each keeping its rows.

    Args:
        module: a module whose base weights were `spread`; weights that were added since, such as a LoRA's, are whole
            on every rank.
        blocks: names of its blocks, of which one at a time is whole; so is everything else, at both ends of a pass.
        layout: the shards that the base weights were `spread` over.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # only where several processes shard
    from torch.distributed.tensor import DTensor

    from toolkit.parallel.shards import Shards

    assert isinstance(layout, Shards), "a single process holds whole weights"
    rows = {name: weight for name, weight in module.named_parameters() if isinstance(weight, DTensor)}
    for name, weight in rows.items():  # FSDP2 cuts whole weights: these are whole, but empty
        owner, _, leaf = name.rpartition(".")
        empty = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
        module.get_submodule(owner)._parameters[leaf] = nn.Parameter(empty, requires_grad=weight.requires_grad)
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)  # sums of bf16 numbers would lose digits
    kind = type(module).__name__
    for part in (*map(module.get_submodule, blocks), module):
        # Resharded even after the root's pass: weights are read in shards whenever no pass is under way.
        sharded = fully_shard(part, mesh=layout.mesh, mp_policy=policy, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # losses are divided by the samples of all ranks: sums, not means
        sharded.set_force_sum_reduction_for_comms(True)
    type(module).__name__ = kind  # libraries write it into the files of the model
    module.load_state_dict(rows, strict=False, assign=True)
