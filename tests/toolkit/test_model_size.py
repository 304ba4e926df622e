"""The sizes that cards state, held against the real classes on the meta device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    MistralConfig,
    MistralModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from tests.live_bytes import FAMILIES, SHAPES, config_of, family_of, vae_bytes
from toolkit.cards import ModelCard, find_cards, read_cards
from toolkit.lora.update import SizedTarget
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
    encoders = card.size.text_encoders
    others = len(encoders) - 1  # which give one vector each, in a row of its own
    assert card.prompt_embeds_shape[0] == max(encoder.num_tokens for encoder in encoders) + others


def test_a_transformers_layers_are_those_of_the_real_class(arch: str) -> None:
    family = family_of(arch)
    with torch.device("meta"):
        model = family.transformer(**config_of(arch))
    size = size_of(arch).transformer
    assert size.parameters == count(model.parameters())
    targets = family.lora_names.targets(model)
    loras = [(target.name, [model.get_submodule(name) for name in target.modules]) for target in targets]
    in_blocks = [modules for name, modules in loras if name.startswith(tuple(family.lora_names.BLOCK_LISTS))]
    assert [block.count for block in size.blocks] == [len(layers) for layers in lists_of_layers(model)]
    assert size.block_parameters == sum(module.weight.numel() for modules in in_blocks for module in modules)
    for blocks_only, chosen in ((True, in_blocks), (False, [modules for _, modules in loras])):
        wanted = sum(modules[0].in_features + sum(module.out_features for module in modules) for modules in chosen)
        assert size.lora_parameters(16, blocks_only=blocks_only) == 16 * wanted
    planned = [target for target in family.lora_names.targets_of_size(size) if not target.is_optional]
    assert [(target.name, target.modules) for target in planned] == [
        (target.name, target.modules) for target in targets
    ]
    assert planned == [SizedTarget.of(target, model) for target in targets]


def test_schnell_is_planned_with_a_thousandth_too_much() -> None:
    with torch.device("meta"):
        schnell = FluxTransformer2DModel(**{**config_of("flux"), "guidance_embeds": False})
    assert 1 <= size_of("flux").transformer.parameters / count(schnell.parameters()) < 1.001


@pytest.mark.parametrize("arch", ENCODERS)
def test_a_text_encoders_layers_are_those_of_the_real_class(arch: str) -> None:
    kind, config, figures = ENCODERS[arch]
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    with torch.device("meta"):
        model = kind(config(**figures, **heads, num_hidden_layers=1))
    (size,) = size_of(arch).text_encoders
    assert size.layer_parameters == count(model.layers[0].parameters())
    assert size.embedding_parameters == model.embed_tokens.weight.numel()
    assert (size.hidden_size, size.inner_size) == (figures["hidden_size"], figures["intermediate_size"])


def test_clip_and_t5_are_those_of_the_real_classes() -> None:
    with torch.device("meta"):
        clip = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
        t5 = T5EncoderModel(
            T5Config(d_model=4096, d_ff=10_240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")
        )
    layers = (clip.encoder.layers, t5.encoder.block)
    for size, model, own in zip(size_of("flux").text_encoders, (clip, t5), layers, strict=True):
        assert (size.num_layers, size.layer_parameters) == (len(own), count(own[-1].parameters()))
        assert size.embedding_parameters + size.num_layers * size.layer_parameters == count(model.parameters())


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_vaes_figures_are_what_the_real_class_holds(arch: str, dtype: torch.dtype) -> None:
    family, vae = family_of(arch), size_of(arch).vae
    with torch.device("meta"):
        assert vae.parameters == count(family.vae(**family.vae_config).parameters())
    encode, decode = vae_bytes(arch, side_px=256, dtype=dtype)
    is_mixed = dtype != torch.float32
    assert vae.encode.at(is_mixed=is_mixed) * 256**2 == pytest.approx(encode, rel=0.05)
    assert vae.decode.at(is_mixed=is_mixed) * 256**2 == pytest.approx(decode, rel=0.05)


def count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def lists_of_layers(model: nn.Module) -> list[nn.ModuleList]:
    return [layers for layers in model.children() if isinstance(layers, nn.ModuleList)]
