"""Numbers of trained weights of adapters, for the memory plan; readable without torch. A test counts the real ones."""

from __future__ import annotations

from typing import Any

from toolkit.adapters.view_shape import ViewShape
from toolkit.cards import ModelCard
from toolkit.model_size import TransformerSize

IP_WIDTH = 1280  # of the tokens; the model's own width would give dev four billion keys and values
IP_DEPTH, IP_FEED_FORWARD = 4, 4
REDUX_INNER, REDUX_FACTOR = 4096, 16
TIME_CHANNELS = 256


def ip(config: Any, card: ModelCard, shape: ViewShape) -> int:
    """Weights of an `ip` adapter: its projector, and keys and values for each attention layer."""
    width, tokens = ip_width(_transformer(card).hidden_size), config.tokens
    return (shape.width + 1) * tokens * width + 2 * width + _attention(config, card, width)


def ip_plus(config: Any, card: ModelCard, shape: ViewShape) -> int:
    """Weights of an `ip+` adapter: its resampler, and keys and values for each attention layer."""
    width = ip_width(_transformer(card).hidden_size)
    layer = (4 + 2 * IP_FEED_FORWARD) * width**2 + 6 * width
    resampler = (config.tokens + shape.width + 1) * width + IP_DEPTH * layer + width**2 + 3 * width
    return resampler + _attention(config, card, width)


def ip_width(hidden_size: int) -> int:
    """Width of the tokens of `ip` and `ip+` on a model of this hidden size: no wider than the model."""
    return min(IP_WIDTH, hidden_size)


def vision_direct(config: Any, card: ModelCard, shape: ViewShape) -> int:
    """Weights of a `vision_direct` adapter: a norm, and keys and values for each attention layer."""
    return 2 * shape.width + _attention(config, card, shape.width)


def redux(config: Any, card: ModelCard, shape: ViewShape) -> int:
    """Weights of a `redux` adapter: two layers with biases."""
    inner = redux_inner(shape.width)
    return (shape.width + 1) * inner + (inner + 1) * card.prompt_embeds_shape[1]


def redux_inner(width: int) -> int:
    """Width between the two layers of a `redux` adapter."""
    return min(REDUX_INNER, REDUX_FACTOR * width)


def control_lora(config: Any, card: ModelCard, shape: None) -> int:
    """Weights of a `control_lora` adapter: columns of the embedder for pictures, and for the mask of one."""
    transformer = _transformer(card)
    mask = transformer.px_per_token // 64 if config.has_inpainting_input else 0
    return transformer.hidden_size * (config.num_control_images * transformer.outer_linears[0][0] + mask)


def subpixel(config: Any, card: ModelCard, shape: None) -> int:
    """Weights of a `subpixel` adapter: a first and a last layer, for tokens of three colours."""
    transformer = _transformer(card)
    return 2 * transformer.hidden_size * 3 * transformer.px_per_token


def mean_flow(config: Any, card: ModelCard, shape: None) -> int:
    """Weights of a `mean_flow` adapter: a second time embedder."""
    hidden = _transformer(card).hidden_size
    return TIME_CHANNELS * hidden + hidden**2


def ip_in_block(config: Any, card: ModelCard, shape: ViewShape) -> int:
    """Weights of an `ip` or `ip+` adapter in one block."""
    hidden_size = _transformer(card).hidden_size
    return _keys_and_values(ip_width(hidden_size), hidden_size)


def vision_direct_in_block(config: Any, card: ModelCard, shape: ViewShape) -> int:
    """Weights of a `vision_direct` adapter in one block."""
    return _keys_and_values(shape.width, _transformer(card).hidden_size)


def _attention(config: Any, card: ModelCard, width: int) -> int:
    transformer = _transformer(card)
    count = sum(block.count for block in transformer.blocks[: 1 if config.blocks == "double" else None])
    return count * _keys_and_values(width, transformer.hidden_size)


def _keys_and_values(width: int, hidden_size: int) -> int:
    return 2 * width * hidden_size  # the norms of its keys are a few hundred more


def _transformer(card: ModelCard) -> TransformerSize:
    assert card.size is not None, "nothing is planned for a model of unknown size"
    return card.size.transformer
