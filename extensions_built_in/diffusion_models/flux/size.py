"""The sizes of FLUX.1's parts, for the memory plan.

Parameter counts follow from the published configurations. Activation sizes were counted on the real classes, every
storage from its allocation to its release, with layer, RMS and group norms in fp32 as under CUDA's autocast; a test
counts them again.
"""

from __future__ import annotations

from toolkit.model_size import BlockSize, Bytes, ModelSize, OwnBackward, TextEncoderSize, TransformerSize, VaeSize

_HIDDEN = 3072
_HEAD_SIZE = 128
_TIME_CHANNELS = 256
_TEXT = 4096
_POOLED = 768
_LATENT_CHANNELS = 64

# One stream of a double block, without its modulation: query, key, value, attention output, and the MLP.
_STREAM = (
    *((_HIDDEN, _HIDDEN),) * 4,
    (_HIDDEN, 4 * _HIDDEN),
    (4 * _HIDDEN, _HIDDEN),
)
_DOUBLE = (*((_HIDDEN, 6 * _HIDDEN),) * 2, *_STREAM * 2)
# Modulation, query, key, value, the MLP, and the projection that joins attention and MLP.
_SINGLE = (
    (_HIDDEN, 3 * _HIDDEN),
    *((_HIDDEN, _HIDDEN),) * 3,
    (_HIDDEN, 4 * _HIDDEN),
    (5 * _HIDDEN, _HIDDEN),
)
# Latents and text; time, CLIP's vector and guidance, two layers each; the output layer and the final modulation.
_OUTER = (
    (_LATENT_CHANNELS, _HIDDEN),
    (_TEXT, _HIDDEN),
    *((_TIME_CHANNELS, _HIDDEN), (_HIDDEN, _HIDDEN)),
    *((_POOLED, _HIDDEN), (_HIDDEN, _HIDDEN)),
    *((_TIME_CHANNELS, _HIDDEN), (_HIDDEN, _HIDDEN)),
    (_HIDDEN, _LATENT_CHANNELS),
    (_HIDDEN, 2 * _HIDDEN),
)


def _biases(linears: tuple[tuple[int, int], ...]) -> int:
    return sum(outputs for _, outputs in linears)


_TRANSFORMER = TransformerSize(
    hidden_size=_HIDDEN,
    px_per_token=16 * 16,
    blocks=(
        BlockSize(
            "double_blocks",
            19,
            _DOUBLE,
            saved=Bytes(62.2, 88.2),
            working=Bytes(89.3, 102.6),
            forward=Bytes(43.9, 48.7),
            other_parameters=_biases(_DOUBLE) + 4 * _HEAD_SIZE,
            modulation_parameters=2 * 6 * _HIDDEN**2,
            shares=(0, 0, *(0.5,) * 12),
            own=OwnBackward(
                kept=Bytes(24.2, 48.3),
                recomputed=Bytes(10.2, 20.3),
                working=Bytes(36.3, 54.4),
                product=Bytes(24.0, 48.0),
            ),
        ),
        BlockSize(
            "single_blocks",
            38,
            _SINGLE,
            saved=Bytes(52.2, 76.2),
            working=Bytes(98.5, 111.9),
            forward=Bytes(57.7, 61.2),
            other_parameters=_biases(_SINGLE) + 2 * _HEAD_SIZE,
            modulation_parameters=3 * _HIDDEN**2,
            shares=(0, *(1,) * 5),
            own=OwnBackward(
                kept=Bytes(20.2, 40.3),
                recomputed=Bytes(6.2, 12.3),
                working=Bytes(52.7, 92.3),
                product=Bytes(32.0, 64.0),
            ),
        ),
    ),
    outer_linears=_OUTER,
    outer_parameters=sum(inputs * outputs for inputs, outputs in _OUTER) + _biases(_OUTER),
    outer_modulation=3 * _HIDDEN**2,
    outer=Bytes(4.1, 4.6),
    trained=Bytes(8.0, 8.0),
)
_CLIP = TextEncoderSize(
    num_layers=12,
    layer_parameters=4 * (768 * 768 + 768) + (768 * 3072 + 3072) + (3072 * 768 + 768) + 4 * 768,
    embedding_parameters=(49_408 + 77) * 768 + 2 * 768,
    hidden_size=768,
    inner_size=3072,
    num_tokens=77,
    is_held_whole=True,
)
# 64 heads of width 64. The embedding also includes a bias per head for each of 32 distances, and the last norm.
_T5 = TextEncoderSize(
    num_layers=24,
    layer_parameters=4 * _TEXT * 64 * 64 + 3 * _TEXT * 10_240 + 2 * _TEXT,
    embedding_parameters=32_128 * _TEXT + 32 * 64 + _TEXT,
    hidden_size=_TEXT,
    inner_size=10_240,
    num_tokens=512,
)
_VAE = VaeSize(
    parameters=83_819_683,
    encode=Bytes(1280, 2560),
    decode=Bytes(1536, 3072),
    latents=16 * 4 / 64,
)

# Size of dev and Kontext. schnell is planned as dev, which is slightly too large: schnell lacks the guidance embedding
# (0.1 % of the weights), and its prompts have half the tokens.
FLUX_1 = ModelSize(_TRANSFORMER, (_CLIP, _T5), _VAE)
