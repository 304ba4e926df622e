"""What lives on the device at the fullest moments of a training step."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.model_size import BlockSize
from toolkit.plan.plan_inputs import PlanInputs

Parts = dict[str, int]
# Of activations that wait in RAM: the one that is written and the one that is read.
IN_FLIGHT = 2
# Largest temporaries of an update of one tensor in 8 bits: both moments, the root and the gradient in fp32.
_UPDATE_WIDTH = 16


def num_tokens(inputs: PlanInputs, px: int) -> int:
    """Tokens of a sequence with pictures of `px` pixels: their own and those of the prompt."""
    prompt = max(encoder.num_tokens for encoder in inputs.size.text_encoders)
    return px // inputs.size.transformer.px_per_token + prompt


def step_moments(inputs: PlanInputs) -> Iterator[Parts]:
    """The moments of a step that can be the fullest, each with what is alive then beside weights and optimizer state.

    The last block's forward pass; the backward pass of the first and the last block of each kind, with the gradients
    that are there by then; the update. Of several passes through the model the last is the first to go back, and what
    the others have kept is alive meanwhile. A pass without a gradient, which keeps nothing, never makes a moment fuller
    than the forward pass of one that keeps.
    """
    kept = sum(block.count * kept_of(inputs, block) for block in _blocks(inputs)) + _outer(inputs)
    if inputs.recomputes:  # else the backward pass, which has all of it and gradients, is never smaller
        forward = max(round(block.forward.at(is_mixed=inputs.is_mixed) * _unit(inputs)) for block in _blocks(inputs))
        copies = _autocast_copies(inputs) + (inputs.work.passes - 1) * _held_copies(inputs)
        yield {
            "activations": _on_device(inputs, inputs.work.passes * kept),
            "working set": forward,
            "bf16 copies": copies,
        }
    for before in reversed(range(inputs.work.passes)):
        yield from _backward_moments(inputs, kept, before, is_last=before == inputs.work.passes - 1)
    gradients = _alive_when_fused(inputs) if inputs.is_fused else inputs.trained_width * inputs.num_trained
    yield {"gradients": gradients, "update": update_bytes(inputs)}


def _backward_moments(inputs: PlanInputs, kept: int, before: int, *, is_last: bool) -> Iterator[Parts]:
    """The moments of one pass on its way back.

    Args:
        inputs: of the plan.
        kept: bytes that one pass has kept.
        before: how many passes were made before this one and wait for their turn.
        is_last: whether it is the first to go back, which meets no gradients of others.
    """
    copies = _held_copies(inputs) if inputs.recomputes else _autocast_copies(inputs)
    waiting = before * kept
    # Gradients grow in number on the way back, unless they are there from another batch or pass, or never stay.
    in_steps = is_last and not (inputs.is_fused or inputs.accumulates)
    are_there = inputs.accumulates or not (is_last or inputs.is_fused)
    gradients = inputs.trained_width * inputs.num_trained if are_there else _alive_when_fused(inputs)
    for block in reversed(_blocks(inputs)):
        arriving = _arriving(inputs, block) if are_there else 0
        for count in dict.fromkeys((1, block.count)):
            grown = (
                inputs.trained_width * _trained_in(inputs, block) * count - _not_yet(inputs, block) if in_steps else 0
            )
            yield {
                "activations": _on_device(inputs, waiting + kept - (count - 1) * kept_of(inputs, block)),
                "working set": _working(inputs, block),
                "gradients": gradients + grown + arriving,
                "bf16 copies": (before + 1) * copies,
            }
        kept -= block.count * kept_of(inputs, block)
        gradients += inputs.trained_width * _trained_in(inputs, block) * block.count if in_steps else 0


def _blocks(inputs: PlanInputs) -> list[BlockSize]:
    return [block for block in inputs.size.transformer.blocks if block.count]


def kept_of(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes that one block keeps for the backward pass: its input if it is recomputed, else what autograd saves."""
    if inputs.recomputes:
        return inputs.width * _unit(inputs)
    per_channel = block.saved.at(is_mixed=inputs.is_mixed)
    if inputs.lora_rank is None or not inputs.blocks_only:
        per_channel += inputs.size.transformer.trained.at(is_mixed=inputs.is_mixed)
    return round(per_channel * _unit(inputs))


def activations_in_ram(inputs: PlanInputs) -> int:
    """Bytes of activations that wait in RAM. torch's page-locked memory comes in powers of two."""
    if not _waits_in_ram(inputs):
        return 0
    return inputs.work.passes * sum(
        block.count * (1 << (kept_of(inputs, block) - 1).bit_length()) for block in inputs.size.transformer.blocks
    )


def forward_bytes(inputs: PlanInputs, px: int) -> int:
    """The most that lives at once in a pass without gradients over one picture of `px` pixels."""
    transformer = inputs.size.transformer
    unit = num_tokens(inputs, px) * transformer.hidden_size
    return round(max(block.forward.at(is_mixed=inputs.is_mixed) for block in transformer.blocks) * unit)


def working_bytes(inputs: PlanInputs) -> int:
    """The most that a block works with, whether it is recomputed or not."""
    blocks = inputs.size.transformer.blocks
    return round(max(block.working.at(is_mixed=inputs.is_mixed) for block in blocks) * _unit(inputs))


def update_bytes(inputs: PlanInputs) -> int:
    """Temporaries of the optimizer. On a GPU torch's own take the root of the second moment of all weights at once."""
    transformer, rank = inputs.size.transformer, inputs.lora_rank
    largest = transformer.largest_linear if rank is None else rank * transformer.widest
    if inputs.optimizer == "adamw8bit" or inputs.is_fused or inputs.device == "cpu":
        return _UPDATE_WIDTH * largest
    return 4 * inputs.num_trained


def _unit(inputs: PlanInputs) -> int:
    """Tokens of a batch times channels: what one number per token and channel stands for."""
    return inputs.batch_size * num_tokens(inputs, inputs.work.train_px) * inputs.size.transformer.hidden_size


def _outer(inputs: PlanInputs) -> int:
    return round(inputs.size.transformer.outer.at(is_mixed=inputs.is_mixed) * _unit(inputs))


def _on_device(inputs: PlanInputs, kept: int) -> int:
    in_flight = IN_FLIGHT * inputs.width * _unit(inputs) + inputs.work.passes * _outer(inputs)
    return min(kept, in_flight) if _waits_in_ram(inputs) else kept


def _waits_in_ram(inputs: PlanInputs) -> bool:
    return inputs.offloads_activations and inputs.recomputes and inputs.device != "cpu"


def _working(inputs: PlanInputs, block: BlockSize) -> int:
    """Of a block in its backward pass, beside what it has kept.

    A quantized layer is spread out to `width` bytes per weight while it is used. That is not while the attention's
    temporaries are alive, so the larger of the two counts.
    """
    unit, is_mixed = _unit(inputs), inputs.is_mixed
    saved, working = block.saved.at(is_mixed=is_mixed), block.working.at(is_mixed=is_mixed)
    if not inputs.recomputes:
        return max(round((working - saved) * unit), _spread_out(inputs, block))
    return max(round(working * unit), round(saved * unit) + _spread_out(inputs, block))


def _spread_out(inputs: PlanInputs, block: BlockSize) -> int:
    if inputs.qtype is None:
        return 0
    return inputs.width * max(inputs_ * outputs for inputs_, outputs in block.linears)


def _autocast_copies(inputs: PlanInputs) -> int:
    """Autocast keeps a copy of every trained fp32 weight in the type that is computed with."""
    return inputs.width * inputs.num_trained if inputs.is_mixed and inputs.trained_width == 4 else 0


def _held_copies(inputs: PlanInputs) -> int:
    """Of those copies, what recomputed blocks leave: of layers outside them, for their own backward pass at the end."""
    is_copied = inputs.lora_rank is None and inputs.is_mixed and inputs.trained_width == 4
    return inputs.width * inputs.size.transformer.outer_modulation if is_copied else 0


def _trained_in(inputs: PlanInputs, block: BlockSize) -> int:
    """Trained weights of one block; the mean of its run where a LoRA is on some of the blocks."""
    if inputs.lora_rank is None:
        return block.parameters
    sides = dict(zip((own.name for own in inputs.size.transformer.blocks), inputs.sides, strict=False))
    return inputs.lora_rank * -(-sides[block.name] // block.count)


def _arriving(inputs: PlanInputs, block: BlockSize) -> int:
    """A gradient that is about to be added to one that is there: the largest of a block, as computed and as added."""
    copy = inputs.width if inputs.is_mixed and inputs.trained_width == 4 else 0
    largest = max(inputs_ * outputs for inputs_, outputs in block.linears)
    return (inputs.trained_width + copy) * largest if inputs.lora_rank is None else 0


def _not_yet(inputs: PlanInputs, block: BlockSize) -> int:
    """What the gradients of a block's modulation will take beyond autocast's copies, which are alive until then.

    Modulation is the first to be used. Its gradients come last, when attention and MLP have let go of what they kept.
    """
    copy = inputs.width if inputs.is_mixed and inputs.trained_width == 4 and inputs.recomputes else 0
    return (inputs.trained_width - copy) * block.modulation_parameters if inputs.lora_rank is None else 0


def _alive_when_fused(inputs: PlanInputs) -> int:
    return inputs.trained_width * inputs.size.transformer.largest_linear if inputs.is_fused else 0
