"""Encoding texts, images and views before the transformer is loaded, and what a VAE needs for a picture."""

from __future__ import annotations

from toolkit.encode.storage import MOST_AHEAD
from toolkit.memory.tiling import WHOLE_LOW_VRAM_PX, WHOLE_PX
from toolkit.model_size import TextEncoderSize
from toolkit.plan.phases.phase import Phase, in_ram
from toolkit.plan.phases.stored import RING_BLOCKS, layer_bytes, te_qtype, vae_weights
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.stage_list import ENCODE_IMAGES, ENCODE_TEXT, ENCODE_VIEWS

# cuDNN's convolutions copy their input and output into another layout. Measured on an H100 at 512 to 1536 pixels: so
# many times what encoding and decoding hold without.
CUDNN_ENCODE, CUDNN_DECODE = 1.2, 1.59


def encode_text(inputs: PlanInputs) -> Phase:
    """One prompt at a time goes through each of the encoders, which are all loaded, and the layer after them, if any.

    The hidden state of every layer is kept until the last layer is done.
    """
    encoders, width = inputs.size.text_encoders, inputs.te_width
    tables = sum(size.embedding_parameters * width for size in encoders)
    layers = sum(round(size.num_layers * layer_bytes(inputs, size)) for size in encoders)
    ring, waiting = map(sum, zip(*(_streamed(inputs, size) for size in encoders), strict=True))
    device = {
        "weights": tables + layers - waiting + inputs.text_layer_parameters * inputs.width,
        "activations": max(size.num_tokens * size.num_layers * size.hidden_size * width for size in encoders),
        "working set": max(_text_working(inputs, size) for size in encoders),
    }
    if waiting:
        device["ring"] = ring
    return Phase(
        ENCODE_TEXT.name, ENCODE_TEXT.name, device, in_ram(inputs, {"offloaded weights": waiting, "loading": tables})
    )


def encode_images(inputs: PlanInputs) -> Phase:
    """One picture at a time goes through the VAE, while the next ones are decoded."""
    device = vae_weights(inputs) | {"working set": vae_encoding(inputs, inputs.work.encode_px)}
    ahead = MOST_AHEAD * 3 * 4 * inputs.work.encode_px  # fp32
    return Phase(ENCODE_IMAGES.name, ENCODE_IMAGES.name, device, in_ram(inputs, {"decoded pictures": ahead}))


def encode_views(inputs: PlanInputs) -> Phase:
    """A vision encoder is loaded through RAM, in fp32, and sees one image at a time."""
    weights = 4 * inputs.work.view_parameters
    device = {"weights": weights, "working set": 4 * inputs.work.view_numbers}
    kept = vae_weights(inputs) if inputs.work.keeps_vae else {}
    return Phase(ENCODE_VIEWS.name, ENCODE_VIEWS.name, kept | device, in_ram(inputs, {"loading": weights}))


def _streamed(inputs: PlanInputs, size: TextEncoderSize) -> tuple[int, int]:
    """Bytes of a text encoder's ring on the card, and of its layers that are offloaded to RAM."""
    if inputs.device == "cpu" or size.is_held_whole or not inputs.te_offloaded:
        return 0, 0
    layer = layer_bytes(inputs, size)
    return round(RING_BLOCKS * layer), round(inputs.te_offloaded * size.num_layers * layer)


def _text_working(inputs: PlanInputs, size: TextEncoderSize) -> int:
    dequantized = 0 if te_qtype(inputs, size) is None else size.hidden_size * size.inner_size
    return (4 * size.num_tokens * size.inner_size + dequantized) * inputs.te_width


def vae_encoding(inputs: PlanInputs, px: int) -> int:
    """Bytes that encoding a picture of `px` pixels takes at its peak."""
    factor = CUDNN_ENCODE if inputs.device == "cuda" else 1
    return round(factor * inputs.size.vae.encode.at(is_mixed=inputs.vae_width < 4) * min(px, WHOLE_PX))


def vae_decoding(inputs: PlanInputs, px: int) -> int:
    """Bytes that decoding a picture of `px` pixels takes at its peak."""
    factor = CUDNN_DECODE if inputs.device == "cuda" else 1
    whole_px = min(px, WHOLE_LOW_VRAM_PX if inputs.low_vram else WHOLE_PX)
    return round(factor * inputs.size.vae.decode.at(is_mixed=inputs.vae_width < 4) * whole_px)
