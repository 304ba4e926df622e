"""LoRA on the layers that a model names, and the files it goes into."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.contract.conftest import Models
from toolkit.config import NetworkConfig
from toolkit.lora.parse import parse
from toolkit.lora.update import Update
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws


def _apply(model: BaseModel) -> Network:
    config = NetworkConfig.model_validate({"type": "lora", "linear": 2, "linear_alpha": 2})
    network = Network(model, config, Draws(0))
    network.apply()
    return network


def _updates(model: BaseModel) -> dict[str, Update]:
    """A random update of every target that LoRA is put on by default."""
    generator = torch.Generator().manual_seed(0)
    updates = {}
    for target in model.get_lora_targets():
        if target.name.startswith(tuple(f"{name}." for name in model.get_transformer_block_names())):
            layers = [model.transformer.get_submodule(module) for module in target.modules]
            a = torch.randn(2, layers[0].in_features, generator=generator)
            updates[target.name] = Update(
                a, torch.randn(sum(layer.out_features for layer in layers), 2, generator=generator)
            )
    return updates


def test_targets_are_linear_layers_of_the_model_each_named_once(whole: BaseModel) -> None:
    targets = whole.get_lora_targets()
    modules = [module for target in targets for module in target.modules]
    assert len({target.name for target in targets}) == len(targets)
    assert len(set(modules)) == len(modules)
    assert all(isinstance(whole.transformer.get_submodule(module), nn.Linear) for module in modules)


def test_every_block_list_has_targets(whole: BaseModel) -> None:
    names = [target.name for target in whole.get_lora_targets()]
    for blocks in whole.get_transformer_block_names():
        assert any(name.startswith(f"{blocks}.") for name in names)


def test_a_target_is_found_by_its_own_name_and_by_those_of_its_layers(whole: BaseModel) -> None:
    for target in whole.get_lora_targets():
        place: Any = whole.locate_layer(target.name)
        assert place is not None and place.target == target.name
        for part, module in enumerate(target.modules):
            for name in (module, module.replace(".", "_")):
                place = whole.locate_layer(name)
                assert place is not None and (place.target, place.part) == (target.name, part), name


def test_a_layer_of_no_model_is_not_found(whole: BaseModel) -> None:
    assert whole.locate_layer("down_blocks.0.attentions.0.proj_in") is None


@pytest.mark.parametrize("file_format", ["bfl", "diffusers", "kohya"])
def test_a_lora_file_in_any_format_says_what_was_written(whole: BaseModel, file_format: str) -> None:
    updates = _updates(whole)
    read = parse(whole.write_lora(updates, file_format), {}, whole.locate_layer)
    assert read.keys() == updates.keys()
    for name, update in updates.items():
        torch.testing.assert_close(read[name].delta(), update.delta(), rtol=1e-5, atol=1e-5)


def test_a_fresh_lora_changes_nothing_and_a_trained_one_does(
    make_model: Models, latents: Tensor, embeds: Tensor
) -> None:
    model, timestep = make_model("transformer"), torch.tensor([300.0, 800.0])
    with torch.no_grad():
        before = model.get_noise_prediction(latents, timestep, Condition(embeds))
        network = _apply(model)
        torch.testing.assert_close(model.get_noise_prediction(latents, timestep, Condition(embeds)), before)
        for parameter in network.parameters():
            parameter.add_(0.05)
        assert not torch.allclose(
            model.get_noise_prediction(latents, timestep, Condition(embeds)), before, rtol=1e-3, atol=1e-3
        )


def test_only_the_lora_has_gradients_and_every_part_of_it_has_one(
    make_model: Models, latents: Tensor, embeds: Tensor
) -> None:
    model = make_model("transformer")
    network = _apply(model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05)
    model.transformer.train()
    model.get_noise_prediction(latents, torch.tensor([300.0, 800.0]), Condition(embeds)).square().mean().backward()
    trained = {id(parameter) for parameter in network.parameters()}
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(p.grad is None for p in model.transformer.parameters() if id(p) not in trained)


def test_a_lora_comes_back_from_its_file(make_model: Models) -> None:
    networks = [_apply(make_model("transformer")) for _ in range(2)]
    with torch.no_grad():
        for index, parameter in enumerate(networks[0].parameters()):
            parameter.add_(0.01 * (index + 1))
    networks[1].load_state_dict(networks[0].state_dict(torch.float32), source="test")
    for name, update in networks[0].updates().items():
        torch.testing.assert_close(networks[1].updates()[name].delta(), update.delta(), rtol=1e-5, atol=1e-6)
