from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux.flux_model import FluxModel
from tests.tiny_flux import tiny_flux
from toolkit.config import NetworkConfig
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws

Sections = dict[str, dict[str, Any]]
NOISY, EMBEDS = torch.randn(1, 16, 4, 6), torch.randn(1, 9, 32)
TIMESTEP = torch.tensor([500.0])


def trained(model: FluxModel, *, checkpointing: bool) -> list[Tensor]:
    """The prediction with a LoRA that is not zero, and its gradients."""
    if checkpointing:
        model.enable_gradient_checkpointing()
    network = Network(model, NetworkConfig.model_validate({"linear": 4}), Draws(0))
    network.apply()
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    velocity = model.get_noise_prediction(NOISY, TIMESTEP, Condition(EMBEDS))
    velocity.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert len(gradients) == len(network.parameters()) and all(gradient.any() for gradient in gradients)
    return [velocity, *gradients]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_streamed_transformer_trains_the_same_bit_for_bit(checkpointing: bool, sections: Sections) -> None:
    plain = tiny_flux(sections["dev"], "transformer")
    streamed = tiny_flux(
        sections["dev"], "transformer", layer_offloading=True, layer_offloading_transformer_percent=0.5
    )
    line = streamed.loader.describe("transformer")
    assert line is not None and "of 4 blocks" in line and "4 of 4" not in line
    pairs = zip(*(trained(model, checkpointing=checkpointing) for model in (plain, streamed)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("options", [{}, {"quantize_te": True, "qtype_te": "qfloat8"}], ids=str)
def test_a_streamed_t5_encodes_the_same_bit_for_bit(options: dict[str, Any], sections: Sections) -> None:
    prompts = ["a red circle", "two blue squares"]
    plain = tiny_flux(sections["dev"], "text_encoder", **options)
    streamed = tiny_flux(sections["dev"], "text_encoder", layer_offloading=True, **options)
    line = streamed.loader.describe("text_encoder")
    assert line is not None and "2 of 2 blocks" in line
    assert torch.equal(streamed.get_prompt_embeds(prompts), plain.get_prompt_embeds(prompts))
    streamed.free("text_encoder")
    assert streamed.loader.describe("text_encoder") is None


def test_blocks_are_listed_in_the_order_of_the_forward_pass(sections: Sections) -> None:
    model = tiny_flux(sections["dev"], "text_encoder", "transformer")
    encoders = model.text_encoder
    assert model.list_blocks(encoders.clip) == []
    for module, count in ((model.transformer, 4), (encoders.t5, 2)):
        called: list[str] = []
        names = model.list_blocks(module)
        assert len(names) == count
        for name in names:
            module.get_submodule(name).register_forward_pre_hook(
                lambda *_, called=called, name=name: called.append(name)
            )
        model.get_prompt_embeds(["a red circle"])
        with torch.no_grad():
            model.get_noise_prediction(NOISY, TIMESTEP, Condition(EMBEDS))
        assert called == names
