"""Memory on the device at the moments of a training step that can be its peak."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.model_size import BlockSize, OwnBackward
from toolkit.optimizers.choices import optimizer_row
from toolkit.plan.phases.step_gradients import alive_when_fused, arriving, grown, trained_in, whole_gradients
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.quantize.qtypes import bits_of

Parts = dict[str, int]
# Offloaded activations that are on the device: the one being written and the one being read.
IN_FLIGHT = 2
# Blocks that are whole at once where weights are sharded: the one in use, and the next one twice, as it arrives and as
# it is used.
GATHERED_BLOCKS = 3
# 32-bit sums of an 8-bit product that are made at once, before and after scaling.
_SUM_BYTES = 256 << 20
# Bytes per weight of temporaries in an 8-bit update of one tensor: both moments, the root and the gradient in fp32.
_UPDATE_WIDTH = 16


def num_tokens(inputs: PlanInputs, px: int) -> int:
    """Number of tokens of a sequence on a process: those of pictures with `px` pixels in total, and of the prompt."""
    prompt = max(encoder.num_tokens for encoder in inputs.size.text_encoders)
    return -(-(px // inputs.size.transformer.px_per_token + prompt) // inputs.context_parallel)


def step_moments(inputs: PlanInputs) -> Iterator[Parts]:
    """The moments of a step that can be its peak, each with what is alive besides weights and optimizer state.

    They are the forward pass of the last block; the backward passes of the first and the last block of each kind, with
    the gradients computed so far; and the update. Each pass through the model runs backward before the next begins. A
    pass without gradient keeps nothing, and needs no more than the forward pass of one with gradient.
    """
    kept = sum(block.count * kept_of(inputs, block) for block in _blocks(inputs)) + _outer(inputs)
    others = inputs.trained_width * inputs.num_held if inputs.accumulates else 0
    if inputs.recomputes:  # otherwise the backward pass has all of this and the gradients too
        forward = max((_forward(inputs, block) for block in _blocks(inputs)), default=0)
        yield {
            "activations": _on_device(inputs, kept),
            "working set": forward,
            "gradients": others,
            "bf16 copies": _autocast_copies(inputs),
        }
    yield from _backward_moments(inputs, kept, others)
    gradients = alive_when_fused(inputs) if inputs.is_fused else inputs.trained_width * inputs.num_held
    yield {"gradients": gradients, "update": update_bytes(inputs)}


def _backward_moments(inputs: PlanInputs, kept: int, others: int) -> Iterator[Parts]:
    """The moments of a backward pass: the last of a step, which finds the gradients of the others.

    Args:
        inputs: the inputs of the memory plan.
        kept: bytes that the forward pass has kept.
        others: bytes of the gradients of other passes.
    """
    copies = _remaining_copies(inputs) if inputs.recomputes else _autocast_copies(inputs)
    # Gradients accumulate during the backward pass, unless those of another one are there or none are kept.
    in_steps = not (inputs.is_fused or inputs.accumulates)
    gradients = others or alive_when_fused(inputs)
    whole = whole_gradients(inputs)
    for block in reversed(_blocks(inputs)):
        new = arriving(inputs, block) if inputs.accumulates else 0
        for count in dict.fromkeys((1, block.count)):
            begun = grown(inputs, block, count) if in_steps else 0
            yield {
                "activations": _on_device(inputs, kept - (count - 1) * kept_of(inputs, block)),
                "working set": _working(inputs, block),
                "gradients": gradients + begun + new + whole,
                "bf16 copies": copies,
            }
        kept -= block.count * kept_of(inputs, block)
        gradients += inputs.trained_width * trained_in(inputs, block) * block.count // inputs.shards if in_steps else 0


def _blocks(inputs: PlanInputs) -> list[BlockSize]:
    return [block for block in inputs.size.transformer.blocks if block.count]


def kept_of(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes that one block keeps for backward: its input if it is recomputed, otherwise what autograd saves.

    A backward pass of its own keeps what it has been written to keep; if activations are offloaded, the input only.
    """
    return max(_kept_by(inputs, block, own) for own in _backwards(inputs, block))


def _kept_by(inputs: PlanInputs, block: BlockSize, own: OwnBackward | None) -> int:
    if inputs.recomputes and (own is None or inputs.offloads_activations):
        return inputs.width * _unit(inputs)
    if own is not None:
        steps = (inputs.width, own.recomputed.at(is_mixed=inputs.is_mixed), own.kept.at(is_mixed=inputs.is_mixed))
        level = min(int(inputs.keeps), 1) if inputs.recomputes else 1
        share = inputs.keeps - level if inputs.recomputes else 1.0
        return round((share * steps[level + 1] + (1 - share) * steps[level]) * _unit(inputs))
    per_channel = block.saved.at(is_mixed=inputs.is_mixed)
    if inputs.lora_rank is None or not inputs.blocks_only:
        per_channel += inputs.size.transformer.trained.at(is_mixed=inputs.is_mixed)
    return round(per_channel * _unit(inputs)) + _network_keeps(inputs, block)


def _network_keeps(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes that a network keeps in a block beside what a LoRA keeps."""
    own = inputs.kept.get(block.name)
    return 0 if own is None else round(own.per_token * _tokens(inputs) + own.held)


def _network_works(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes that are alive at the fullest moment of a block's backward pass beside those that it keeps."""
    own = inputs.kept.get(block.name)
    return 0 if own is None else round(own.passing * _tokens(inputs))


def activations_in_ram(inputs: PlanInputs) -> int:
    """Bytes of activations offloaded to RAM. torch rounds page-locked memory up to a power of two."""
    if not _waits_in_ram(inputs):
        return 0
    return sum(
        block.count * (1 << (kept_of(inputs, block) - 1).bit_length()) for block in inputs.size.transformer.blocks
    )


def forward_bytes(inputs: PlanInputs, px: int) -> int:
    """Peak bytes of a forward pass without gradients over one picture of `px` pixels."""
    transformer = inputs.size.transformer
    unit = num_tokens(inputs, px) * transformer.hidden_size
    return round(max(block.forward.at(is_mixed=inputs.is_mixed) for block in transformer.blocks) * unit)


def working_bytes(inputs: PlanInputs) -> int:
    """Largest working set of a block in bytes, whether it is recomputed or not."""
    blocks = inputs.size.transformer.blocks
    return round(max(block.working.at(is_mixed=inputs.is_mixed) for block in blocks) * _unit(inputs))


def update_bytes(inputs: PlanInputs) -> int:
    """Bytes of the optimizer's temporaries.

    On a GPU, torch's own optimizers and some others compute something for all weights at once.
    """
    transformer, rank = inputs.size.transformer, inputs.lora_rank
    largest = transformer.largest_linear if rank is None else rank * transformer.widest
    if not optimizer_row(inputs.optimizer).is_batched or inputs.is_fused or inputs.device == "cpu":
        return _UPDATE_WIDTH * largest
    return 4 * inputs.num_held


def _tokens(inputs: PlanInputs) -> int:
    """Tokens of a batch."""
    return inputs.batch_size * num_tokens(inputs, inputs.work.train_px)


def _unit(inputs: PlanInputs) -> int:
    """Tokens of a batch times channels: the count of values if there is one per token and channel."""
    return _tokens(inputs) * inputs.size.transformer.hidden_size


def _outer(inputs: PlanInputs) -> int:
    return round(inputs.size.transformer.outer.at(is_mixed=inputs.is_mixed) * _unit(inputs))


def _on_device(inputs: PlanInputs, kept: int) -> int:
    in_flight = IN_FLIGHT * inputs.width * _unit(inputs) + _outer(inputs)
    return min(kept, in_flight) if _waits_in_ram(inputs) else kept


def _waits_in_ram(inputs: PlanInputs) -> bool:
    return inputs.offloads_activations and inputs.recomputes and inputs.device != "cpu"


def _backwards(inputs: PlanInputs, block: BlockSize) -> list[OwnBackward | None]:
    """The backward passes that a block may have; None is autograd's."""
    found = [block.own if name == "own" else None for name in inputs.backward_passes]
    return found if block.own is not None else [None]


def _forward(inputs: PlanInputs, block: BlockSize) -> int:
    """Peak bytes of the forward pass of a block in training; a block's own takes less than its backward pass."""
    size = block.forward if None in _backwards(inputs, block) or block.own is None else block.own.working
    return round(size.at(is_mixed=inputs.is_mixed) * _unit(inputs))


def _working(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes that a block needs in its backward pass besides what it has kept.

    A quantized layer has temporaries of its own, see `_dequantized`. Those of attention are not alive at that time, so
    the larger of the two counts.
    """
    return max(_working_of(inputs, block, own) for own in _backwards(inputs, block))


def _working_of(inputs: PlanInputs, block: BlockSize, own: OwnBackward | None) -> int:
    unit, is_mixed = _unit(inputs), inputs.is_mixed
    if own is not None:
        is_whole_again = inputs.recomputes and (inputs.offloads_activations or inputs.keeps < 1)
        again = own.kept.at(is_mixed=is_mixed) if is_whole_again else 0.0
        working, product = own.working.at(is_mixed=is_mixed), own.product.at(is_mixed=is_mixed)
        return round(again * unit) + max(round(working * unit), round(product * unit) + _dequantized(inputs, block))
    saved, working = block.saved.at(is_mixed=is_mixed), block.working.at(is_mixed=is_mixed)
    network = _network_works(inputs, block)
    if not inputs.recomputes:
        return max(round((working - saved) * unit) + network, _dequantized(inputs, block))
    network += _network_keeps(inputs, block)
    return max(round(working * unit) + network, round(saved * unit) + _dequantized(inputs, block))


def _dequantized(inputs: PlanInputs, block: BlockSize) -> int:
    """Bytes of what a product with a quantized weight needs: the weight itself, or 8-bit factors and 32-bit sums."""
    largest = max(inputs_ * outputs for inputs_, outputs in block.linears)
    if inputs.dequantizes:
        return inputs.width * largest
    if inputs.qtype is None:
        return 0
    tokens = _unit(inputs) // inputs.size.transformer.hidden_size
    numbers = tokens * max(max(linear) for linear in block.linears)
    # Half of the step's products multiply with the transposed weight, which a card copies first.
    turned = 0 if inputs.device == "cpu" else largest
    return turned + numbers + 2 * min(4 * numbers, _SUM_BYTES)


def _autocast_copies(inputs: PlanInputs) -> int:
    """Bytes of the copies that autocast keeps of all trained fp32 weights, in the dtype of the computation."""
    if not inputs.is_mixed or inputs.trained_width != 4 or inputs.backward_passes == ("own",):
        return 0  # a backward pass of its own makes those of one block at a time
    # Where weights are sharded, only those of the layer that computes are copied.
    transformer = inputs.size.transformer
    if inputs.is_sharded:
        return inputs.width * min(inputs.num_trained, transformer.largest_linear)
    frozen = 0
    if inputs.is_filtered:  # autocast forgets these copies, but a block keeps them for its backward pass
        frozen = transformer.largest_block if inputs.recomputes else transformer.parameters - inputs.num_trained
    return inputs.width * (inputs.num_trained + max(0, frozen))


def _remaining_copies(inputs: PlanInputs) -> int:
    """Bytes of autocast copies that remain if blocks are recomputed.

    These are the copies for layers outside the blocks, which are needed for the end of the backward pass.
    """
    is_copied = inputs.lora_rank is None and inputs.is_mixed and inputs.trained_width == 4 and not inputs.is_sharded
    return inputs.width * inputs.size.transformer.outer_modulation if is_copied else 0


def gathered_weights(inputs: PlanInputs) -> Parts:
    """Sharded weights that are gathered at a time: some blocks, and what is outside blocks throughout a pass."""
    if not inputs.is_sharded:
        return {}
    size = inputs.size.transformer
    if inputs.lora_rank is None:
        block, outer = size.largest_block * inputs.trained_width, inputs.trained_width
    else:
        block, outer = round(size.largest_block * bits_of(inputs.qtype, inputs.width) / 8), inputs.width
    return {"gathered weights": GATHERED_BLOCKS * block + (size.parameters - size.block_parameters) * outer}
