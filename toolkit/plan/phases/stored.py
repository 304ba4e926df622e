"""Bytes of the weights that do not change, wherever they are."""

from __future__ import annotations

from toolkit.model_size import TextEncoderSize
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.step_memory import Parts
from toolkit.quantize.qtypes import bits_of

RING_BLOCKS = 2  # on the card, of the blocks that are offloaded to RAM


def transformer_bytes(inputs: PlanInputs) -> int:
    """Bytes of the transformer's weights, wherever they are. In a full fine-tune, they are the trained weights."""
    size = inputs.size.transformer
    if inputs.lora_rank is None:
        return size.parameters * inputs.trained_width
    in_blocks = size.block_parameters * bits_of(inputs.qtype, inputs.width) / 8
    return round(in_blocks) + (size.parameters - size.block_parameters) * inputs.width


def quantized_bytes(inputs: PlanInputs) -> dict[tuple[str, str], int]:
    """(component, number format) -> bytes, for everything that is quantized."""
    found = {}
    if inputs.qtype is not None:
        found["transformer", inputs.qtype] = transformer_bytes(inputs)
    if inputs.te_qtype is not None:
        encoders = [size for size in inputs.size.text_encoders if not size.is_held_whole]
        found["text_encoder", inputs.te_qtype] = sum(
            round(size.num_layers * layer_bytes(inputs, size)) + size.embedding_parameters * inputs.te_width
            for size in encoders
        )
    return found


def offloaded_bytes(inputs: PlanInputs) -> int:
    """Bytes of block weights that are offloaded to RAM."""
    if inputs.lora_rank is None or inputs.device == "cpu":
        return 0
    bits = bits_of(inputs.qtype, inputs.width)
    return round(inputs.offloaded * inputs.size.transformer.block_parameters * bits / 8)


def layer_bytes(inputs: PlanInputs, size: TextEncoderSize) -> float:
    """Bytes of one layer of a text encoder."""
    return size.layer_parameters * bits_of(te_qtype(inputs, size), inputs.te_width) / 8


def te_qtype(inputs: PlanInputs, size: TextEncoderSize) -> str | None:
    """Number format of a text encoder; None if it is not quantized."""
    return None if size.is_held_whole else inputs.te_qtype


def vae_weights(inputs: PlanInputs) -> Parts:
    """The VAE's weights; nothing where a transformer is trained on pixels."""
    size = inputs.size.vae.parameters * inputs.vae_width
    return {"VAE": size} if size else {}


def offloaded(inputs: PlanInputs) -> Parts:
    """The block weights that are offloaded to RAM."""
    return {"offloaded weights": offloaded_bytes(inputs)}
