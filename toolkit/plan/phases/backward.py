"""Who makes the backward pass of a model's blocks, as far as a job's settings say."""

from __future__ import annotations

from typing import Literal

from toolkit.config import TrainingProcessConfig

BackwardPass = Literal["own", "autograd"]


def backward_passes(
    process: TrainingProcessConfig, *, in_blocks: tuple[int, ...], blocks_only: bool, ranks: int
) -> tuple[BackwardPass, ...]:
    """Who may make the backward pass of a job's blocks: their own is for a LoRA on layers that nothing else changes.

    Args:
        process: the job's settings.
        in_blocks: weights of adapters in each kind of block.
        blocks_only: whether only layers inside blocks carry a LoRA.
        ranks: number of processes that train together.
    """
    network, train = process.network, process.train
    is_sharded = train.sharding == "full" and ranks > 1
    if network is None or train.full_finetune or is_sharded or any(in_blocks):
        return ("autograd",)
    kind, settings = network.at(None)
    if kind != "lora" or settings.draws_numbers:
        return ("autograd",)
    is_everywhere = not network.patterns and not network.network_kwargs.full_if_contains
    is_alone = blocks_only and not process.adapter and not process.model.assistant_lora_path
    return ("own",) if is_everywhere and is_alone else ("own", "autograd")
