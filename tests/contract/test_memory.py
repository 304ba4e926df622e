"""Ways to hold a model in less memory: what they may change, and what they must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.contract.conftest import Models
from toolkit.config import NetworkConfig
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.randomness import Draws

TIMESTEP = torch.tensor([300.0, 800.0])
STREAMED = {"layer_offloading": True, "layer_offloading_transformer_percent": 0.5}


def _trained(model: BaseModel, latents: Tensor, embeds: Tensor, *, is_checkpointed: bool) -> list[Tensor]:
    """The prediction of a model with a LoRA, and the LoRA's gradients."""
    network = Network(model, NetworkConfig.model_validate({"type": "lora", "linear": 2}), Draws(0))
    network.apply()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02)
    if is_checkpointed:
        model.enable_gradient_checkpointing()
    model.transformer.train()
    velocity = model.get_noise_prediction(latents, TIMESTEP, Condition(embeds))
    velocity.square().mean().backward()
    return [velocity.detach(), *(parameter.grad for parameter in network.parameters() if parameter.grad is not None)]


def test_the_layers_that_may_be_quantized_are_linear_layers_inside_blocks(whole: BaseModel) -> None:
    layers = whole.get_quantizable_layers("transformer", whole.transformer)
    blocks = tuple(f"{name}." for name in whole.list_blocks(whole.transformer))
    assert layers
    for name in layers:
        assert name.startswith(blocks)
        assert isinstance(whole.transformer.get_submodule(name), nn.Linear)


@pytest.mark.parametrize("qtype", ["int8", "nf4"])
def test_a_quantized_transformer_predicts_nearly_the_same(
    make_model: Models, whole: BaseModel, latents: Tensor, embeds: Tensor, qtype: str
) -> None:
    model = make_model("transformer", quantize=True, quantize_te=False, qtype=qtype, quantize_cache=False)
    for name in whole.get_quantizable_layers("transformer", whole.transformer):
        assert isinstance(model.transformer.get_submodule(name), FrozenLinear)
    with torch.no_grad():
        plain, quantized = (one.get_noise_prediction(latents, TIMESTEP, Condition(embeds)) for one in (whole, model))
    assert 0 < (quantized - plain).norm() < (0.1 if qtype == "int8" else 0.5) * plain.norm()


@pytest.mark.parametrize("options", [STREAMED, {"activation_offloading": True}], ids=["layers", "activations"])
def test_offloading_changes_no_bit_of_predictions_and_gradients(
    make_model: Models, latents: Tensor, embeds: Tensor, options: dict[str, Any]
) -> None:
    plain, offloaded = (
        _trained(make_model("transformer", **section), latents, embeds, is_checkpointed=True)
        for section in ({}, options)
    )
    assert len(plain) == len(offloaded) > 1
    assert all(torch.equal(one, two) for one, two in zip(plain, offloaded, strict=True))
