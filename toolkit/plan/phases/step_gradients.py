"""Bytes of gradients at the moments of a backward pass."""

from __future__ import annotations

from toolkit.model_size import BlockSize
from toolkit.plan.plan_inputs import PlanInputs


def trained_in(inputs: PlanInputs, block: BlockSize) -> int:
    """Number of trained weights in one block; the mean over its run if a LoRA is on only some of the blocks."""
    if inputs.lora_rank is None and not inputs.is_filtered:
        return block.parameters
    names = [own.name for own in inputs.size.transformer.blocks]
    sides, fixed = (dict(zip(names, runs, strict=False)) for runs in (inputs.sides, inputs.fixed_weights))
    if inputs.lora_rank is None:
        return -(-fixed[block.name] // block.count)
    return inputs.lora_rank * -(-sides[block.name] // block.count) + -(-fixed.get(block.name, 0) // block.count)


def grown(inputs: PlanInputs, block: BlockSize, count: int) -> int:
    """Bytes of the gradients of `count` blocks of one kind whose backward pass has begun."""
    kept = inputs.trained_width * trained_in(inputs, block) * count // inputs.shards
    return kept - (0 if inputs.is_sharded else _pending_modulation(inputs, block))


def whole_gradients(inputs: PlanInputs) -> int:
    """Bytes of gradients that are whole before the ranks have summed them: of a block twice, and outside blocks."""
    if not inputs.is_sharded:
        return 0
    transformer = inputs.size.transformer
    block = max(trained_in(inputs, block) for block in inputs.size.transformer.blocks if block.count)
    outside = transformer.parameters - transformer.block_parameters if inputs.lora_rank is None else 0
    outside = inputs.fixed_weights[-1] if inputs.is_filtered else outside
    return inputs.trained_width * (block + outside) + 4 * block  # they are summed in fp32


def arriving(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes of the largest new gradient of a block, as computed and as cast, before it is added to an existing one."""
    copy = inputs.width if inputs.is_mixed and inputs.trained_width == 4 else 0
    largest = max(inputs_ * outputs for inputs_, outputs in block.linears)
    return (inputs.trained_width + copy) * largest if inputs.lora_rank is None else 0


def _pending_modulation(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes that gradients of a block's modulation will add to autocast's copies, which are alive until then.

    Modulation is used first, so its gradients come last, when attention and MLP have freed what they kept.
    """
    copy = inputs.width if inputs.is_mixed and inputs.trained_width == 4 and inputs.recomputes else 0
    is_trained = inputs.lora_rank is None and not inputs.is_filtered
    return (inputs.trained_width - copy) * block.modulation_parameters if is_trained else 0


def alive_when_fused(inputs: PlanInputs) -> int:
    """Bytes of the gradient that is alive where each weight is updated as soon as it has one; 0 otherwise."""
    return inputs.trained_width * inputs.size.transformer.largest_linear if inputs.is_fused else 0
