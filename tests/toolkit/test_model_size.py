"""The sizes that cards state, held against the real classes on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import MistralConfig, MistralModel, Qwen3Config, Qwen3Model

from extensions_built_in.diffusion_models.flux2.lora_keys import BLOCK_LISTS, targets
from tests.live_bytes import SHAPES, config_of, vae_bytes
from toolkit.cards import ModelCard, find_cards, read_cards
from toolkit.model_size import ModelSize

# The configs that came with the text encoders, as far as they give sizes.
ENCODERS: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "flux2": (MistralModel, MistralConfig, {"hidden_size": 5120, "intermediate_size": 32768, "vocab_size": 131072}),
    "flux2_klein_4b": (Qwen3Model, Qwen3Config, {"hidden_size": 2560, "intermediate_size": 9728}),
    "flux2_klein_9b": (Qwen3Model, Qwen3Config, {"hidden_size": 4096, "intermediate_size": 12288}),
}


@pytest.fixture(params=list(SHAPES))
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def size_of(arch: str) -> ModelSize:
    size = find_cards()[arch].size
    assert size is not None
    return size


OURS = [find_cards()[arch] for arch, package in read_cards().packages.items() if package.is_built_in]


@pytest.mark.parametrize("card", OURS, ids=lambda card: card.arch)
def test_every_card_of_ours_gives_sizes_that_agree_with_its_parameter_count(card: ModelCard) -> None:
    assert card.size is not None
    assert card.size.transformer.parameters == card.num_parameters
    assert card.prompt_embeds_shape[0] == max(encoder.num_tokens for encoder in card.size.text_encoders)


def test_a_transformers_layers_are_those_of_the_real_class(arch: str) -> None:
    with torch.device("meta"):
        model = Flux2Transformer2DModel(**config_of(arch))
    size = size_of(arch).transformer
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    loras = [(target.name, [model.get_submodule(name) for name in target.modules]) for target in targets(model)]
    in_blocks = [modules for name, modules in loras if name.startswith(tuple(BLOCK_LISTS))]
    assert size.block_parameters == sum(module.weight.numel() for modules in in_blocks for module in modules)
    for blocks_only, chosen in ((True, in_blocks), (False, [modules for _, modules in loras])):
        wanted = sum(modules[0].in_features + sum(module.out_features for module in modules) for modules in chosen)
        assert size.lora_parameters(16, blocks_only=blocks_only) == 16 * wanted


def test_a_text_encoders_layers_are_those_of_the_real_class(arch: str) -> None:
    kind, config, figures = ENCODERS[arch]
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    with torch.device("meta"):
        model = kind(config(**figures, **heads, num_hidden_layers=1))
    (size,) = size_of(arch).text_encoders
    assert size.layer_parameters == sum(parameter.numel() for parameter in model.layers[0].parameters())
    assert size.embedding_parameters == model.embed_tokens.weight.numel()
    assert (size.hidden_size, size.inner_size) == (figures["hidden_size"], figures["intermediate_size"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_vaes_figures_are_what_the_real_class_holds(dtype: torch.dtype) -> None:
    vae = size_of("flux2").vae
    with torch.device("meta"):
        assert vae.parameters == sum(parameter.numel() for parameter in AutoencoderKLFlux2().parameters())
    encode, decode = vae_bytes({}, side_px=256, dtype=dtype)
    is_mixed = dtype != torch.float32
    assert vae.encode.at(is_mixed=is_mixed) * 256**2 == pytest.approx(encode, rel=0.05)
    assert vae.decode.at(is_mixed=is_mixed) * 256**2 == pytest.approx(decode, rel=0.05)
