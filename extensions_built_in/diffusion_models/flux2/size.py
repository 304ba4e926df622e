"""The sizes of FLUX.2's parts, for the memory plan.

Parameter counts follow from the published configurations. Activation sizes were counted on the real classes, every
storage from its allocation to its release, with layer, RMS and group norms in fp32 as under CUDA's autocast; a test
counts them again.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.model_size import BlockSize, Bytes, ModelSize, OwnBackward, TextEncoderSize, TransformerSize, VaeSize

_HEAD_SIZE = 128
_TIME_CHANNELS = 256


def transformer_size(
    *,
    hidden_size: int,
    num_double: int,
    num_single: int,
    text_size: int,
    latent_channels: int = 128,
    head_size: int = _HEAD_SIZE,
    has_guidance: bool = False,
) -> TransformerSize:
    """The size of a transformer from its configuration.

    A double block has, for each of its two streams, qkv, the attention output and a gated MLP of three times the
    width; a single block has all of that in two layers. Modulation is shared by all blocks.
    """
    h = hidden_size
    stream = ((h, 3 * h), (h, h), (h, 6 * h), (3 * h, h))
    embedders = ((_TIME_CHANNELS, h), (h, h)) * (2 if has_guidance else 1)
    modulation = ((h, 6 * h), (h, 6 * h), (h, 3 * h))
    outer = ((latent_channels, h), (text_size, h), *embedders, *modulation, (h, latent_channels))
    final_modulation = 2 * h * h  # never carries a LoRA
    return TransformerSize(
        hidden_size=h,
        px_per_token=16 * 16,
        blocks=(
            BlockSize(
                "double_blocks",
                num_double,
                stream * 2,
                saved=Bytes(58.2, 92.2),
                working=Bytes(84.4, 111.8),
                forward=Bytes(36.5, 63.8),
                other_parameters=4 * head_size,
                fused=(3, 1, 1, 1) * 2,
                shares=(0.5,) * 8,
                own=OwnBackward(
                    kept=Bytes(24.4, 48.3),
                    recomputed=Bytes(6.4, 12.2),
                    working=Bytes(36.0, 75.2),
                    product=Bytes(26.0, 52.0),
                ),
            ),
            BlockSize(
                "single_blocks",
                num_single,
                ((h, 9 * h), (4 * h, h)),
                saved=Bytes(52.1, 84.1),
                working=Bytes(92.8, 141.0),
                forward=Bytes(72.4, 90.5),
                other_parameters=2 * head_size,
                own=OwnBackward(
                    kept=Bytes(22.2, 44.1),
                    recomputed=Bytes(4.2, 8.1),
                    working=Bytes(52.5, 96.1),
                    product=Bytes(32.0, 64.0),
                ),
            ),
        ),
        outer_linears=outer,
        outer_parameters=sum(inputs * outputs for inputs, outputs in outer) + final_modulation,
        outer_modulation=sum(inputs * outputs for inputs, outputs in modulation) + len(embedders) // 2 * h * h,
        outer=Bytes(4.2, 4.6),
        trained=Bytes(15.0, 16.6),
    )


def qwen3_size(*, hidden_size: int, inner_size: int, num_layers: int = 27, num_tokens: int = 512) -> TextEncoderSize:
    """The used layers of a Qwen3 with 32 heads of width 128 and 8 key/value heads."""
    attention = 2 * hidden_size * 32 * _HEAD_SIZE + 2 * hidden_size * 8 * _HEAD_SIZE
    norms = 2 * hidden_size + 2 * _HEAD_SIZE
    return TextEncoderSize(
        num_layers=num_layers,
        layer_parameters=attention + 3 * hidden_size * inner_size + norms,
        embedding_parameters=151_936 * hidden_size,
        hidden_size=hidden_size,
        inner_size=inner_size,
        num_tokens=num_tokens,
    )


# Mistral Small 3.2: 30 of 40 layers, 32 heads of width 128 and 8 key/value heads.
MISTRAL = TextEncoderSize(
    num_layers=30,
    layer_parameters=2 * 5120 * (32 + 8) * _HEAD_SIZE + 3 * 5120 * 32_768 + 2 * 5120,
    embedding_parameters=131_072 * 5120,
    hidden_size=5120,
    inner_size=32_768,
    num_tokens=512,
)
VAE = VaeSize(
    parameters=84_046_115,
    encode=Bytes(1280, 2560),
    decode=Bytes(1537, 3074),
    latents=128 * 4 / 256,
)

DEV = ModelSize(
    transformer_size(hidden_size=6144, num_double=8, num_single=48, text_size=15_360, has_guidance=True),
    (MISTRAL,),
    VAE,
)
KLEIN_4B = ModelSize(
    transformer_size(hidden_size=3072, num_double=5, num_single=20, text_size=7680),
    (qwen3_size(hidden_size=2560, inner_size=9728),),
    VAE,
)
KLEIN_9B = ModelSize(
    transformer_size(hidden_size=4096, num_double=8, num_single=24, text_size=12_288),
    (qwen3_size(hidden_size=4096, inner_size=12_288),),
    VAE,
)
# Its attention treats references apart: blocks have autograd's backward pass.
KLEIN_9B_KV = replace(
    KLEIN_9B,
    transformer=replace(
        KLEIN_9B.transformer, blocks=tuple(replace(block, own=None) for block in KLEIN_9B.transformer.blocks)
    ),
)
TINY = ModelSize(
    transformer_size(hidden_size=192, num_double=2, num_single=4, text_size=192, latent_channels=64, head_size=32),
    (
        TextEncoderSize(
            num_layers=27,
            layer_parameters=37_024,
            embedding_parameters=25_920,
            hidden_size=64,
            inner_size=128,
            num_tokens=48,
        ),
    ),
    VaeSize(
        parameters=3_449_395,
        encode=Bytes(256, 512),
        decode=Bytes(385, 769),
        latents=64 * 4 / 256,
    ),
)
