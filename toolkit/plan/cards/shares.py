"""A model that is split over several cards, as one smaller model for each card.

The plan of a card is that of a model with the card's blocks only. The first card also has what is outside the blocks,
the VAE, and adapters at the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from toolkit.model_size import Bytes, TransformerSize, VaeSize
from toolkit.optimizers.choices import optimizer_row
from toolkit.parallel.split import split_blocks
from toolkit.plan.phases.step_gradients import trained_in
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.step_memory import kept_of
from toolkit.quantize.qtypes import bits_of

_NOTHING = Bytes(0, 0)
_NO_VAE = VaeSize(0, encode=_NOTHING, decode=_NOTHING, latents=0)


def choose_split(inputs: PlanInputs, bytes_of: Callable[[PlanInputs], int]) -> tuple[int, ...]:
    """The number of blocks on each card.

    Args:
        inputs: inputs of a plan for several cards.
        bytes_of: the memory that a card takes at its peak, given the inputs of its share.
    """
    counts = [block.count for block in inputs.size.transformer.blocks]
    blocks = [block_bytes(inputs, index) for index, count in enumerate(counts) for _ in range(count)]
    # What does not depend on the blocks: as if each card had all of them, without their bytes.
    all_blocks = sum(counts)
    bases = [
        bytes_of(share_of(inputs, (0, all_blocks), is_first=card == 0)) - sum(blocks)
        for card in range(len(inputs.cards))
    ]
    return split_blocks(blocks, inputs.cards, bases=bases)


def shares_of(inputs: PlanInputs, split: Sequence[int]) -> tuple[PlanInputs, ...]:
    """The inputs of each card's plan, given the number of blocks on each."""
    ends = [sum(split[: card + 1]) for card in range(len(split))]
    spans = zip([0, *ends[:-1]], ends, strict=True)
    return tuple(share_of(inputs, span, is_first=card == 0) for card, span in enumerate(spans))


def share_of(inputs: PlanInputs, span: tuple[int, int], *, is_first: bool) -> PlanInputs:
    """The inputs for a model that has only some of the blocks.

    Args:
        inputs: the plan's inputs for the whole model.
        span: the first of the blocks, and the one after the last, counted from 0 over all kinds.
        is_first: whether the card also has what is outside the blocks.
    """
    whole = inputs.size.transformer
    kinds = _counts_in(whole, span)
    part = _part_of(whole, kinds, is_first=is_first)
    adapters = _parts(inputs.adapter_in_blocks, whole, kinds)
    ends = inputs.adapter_parameters - sum(inputs.adapter_in_blocks)
    return replace(
        inputs,
        size=replace(inputs.size, transformer=part, vae=inputs.size.vae if is_first else _NO_VAE),
        work=inputs.work if is_first else replace(inputs.work, decode_px=0, shown_px=0, keeps_vae=False),
        lora_sides=_run_parts(inputs.sides, whole, kinds, is_first=is_first),
        fixed_weights=_run_parts(inputs.fixed_weights, whole, kinds, is_first=is_first),
        adapter_parameters=sum(adapters) + (ends if is_first else 0),
        adapter_in_blocks=adapters,
        assistant_parameters=inputs.assistant_parameters * part.parameters // whole.parameters,
        cards=(),
    )


def block_bytes(inputs: PlanInputs, kind: int) -> int:
    """Bytes that a block of a kind adds to its card: weights, what is trained in it, and what it keeps for backward."""
    block = inputs.size.transformer.blocks[kind]
    weights = 0
    if inputs.lora_rank is not None:
        weights += round(block.linear_parameters * bits_of(inputs.qtype, inputs.width) / 8)
        weights += block.other_parameters * inputs.width
    trained = trained_in(inputs, block)
    if inputs.adapter_in_blocks:
        trained += inputs.adapter_in_blocks[kind] // block.count
    width = inputs.trained_width + inputs.spare_width + optimizer_row(inputs.optimizer).state_bytes
    width += 0 if inputs.is_fused else inputs.trained_width
    width += 4 * inputs.num_averages
    kept = 0 if inputs.offloads_activations else kept_of(inputs, block)
    return weights + round(width * trained) + kept


def _counts_in(whole: TransformerSize, span: tuple[int, int]) -> list[int]:
    """How many blocks of each kind are in a span."""
    found, first = [], 0
    for block in whole.blocks:
        last = first + block.count
        found.append(max(0, min(last, span[1]) - max(first, span[0])))
        first = last
    return found


def _part_of(whole: TransformerSize, kinds: Sequence[int], *, is_first: bool) -> TransformerSize:
    blocks = tuple(replace(block, count=count) for block, count in zip(whole.blocks, kinds, strict=True))
    part = replace(whole, blocks=blocks)
    if is_first:
        return part
    return replace(part, outer_linears=(), outer_parameters=0, outer_modulation=0, outer=_NOTHING)


def _run_parts(sums: Sequence[int], whole: TransformerSize, kinds: Sequence[int], *, is_first: bool) -> tuple[int, ...]:
    """The same of sums whose last entry is of what is outside the blocks; nothing of nothing."""
    if not sums:
        return ()
    *in_blocks, outside = sums
    return (*_parts(in_blocks, whole, kinds), outside if is_first else 0)


def _parts(sums: Sequence[int], whole: TransformerSize, kinds: Sequence[int]) -> tuple[int, ...]:
    """Of sums over all blocks of each kind, what so many of the blocks have, rounded up."""
    return tuple(
        -(-total * count // block.count) if block.count else 0
        for total, count, block in zip(sums, kinds, whole.blocks, strict=False)
    )
