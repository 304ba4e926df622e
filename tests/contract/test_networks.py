"""What every kind of network promises, on every model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contract.conftest import Models
from toolkit.config import NetworkConfig
from toolkit.lora.files import write_lora_file
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.build import num_weights
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_tensors

# Settings of each kind, and variants with another forward pass.
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "linear": 2},
    "lokr": {"type": "lokr"},
    "lokr of factor 4": {"type": "lokr", "lokr_factor": 4},
    "lokr of rank 2": {"type": "lokr", "lokr_full_rank": False, "lokr_factor": 4, "linear": 2, "linear_alpha": 1},
}
KINDS["fullrank"] = {"type": "fullrank"}
KINDS["lora with full changes"] = {"type": "lora", "linear": 2, "network_kwargs": {"full_if_contains": "proj"}}
KINDS["mixed ranks and kinds"] = {
    "type": "lora",
    "linear": 4,
    "rs_lora": True,
    "patterns": [{"contains": "single", "linear": 2}, {"contains": ["mlp", "ff."], "type": "lokr"}],
}
KINDS["loha"] = {"type": "loha", "linear": 2, "linear_alpha": 1}
KINDS["dora"] = {"type": "dora", "linear": 2, "linear_alpha": 1}
KINDS["oft"] = {"type": "oft", "linear": 8}
TIMESTEP = torch.tensor([300.0, 800.0])
NUM_ROWS = 24  # of a prompt's up to 513, on which nothing here depends; the last may be a pooled vector


@pytest.fixture(scope="session")
def embeds(embeds: Tensor) -> Tensor:
    """Two encoded prompts of few rows, [2, L, D]."""
    return embeds[:, -NUM_ROWS:]


def _network(model: BaseModel, kind: str, *, seed: int = 0) -> Network:
    network = Network(model, NetworkConfig.model_validate(KINDS[kind]), Draws(seed))
    network.apply()
    return network


@torch.no_grad()
def train_network(network: Network, *, seed: int = 1) -> None:
    """Move every weight, as far as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def _predict(model: BaseModel, latents: Tensor, embeds: Tensor) -> Tensor:
    return model.get_noise_prediction(latents, TIMESTEP, Condition(embeds))


@torch.no_grad()
def _merge(network: Network, model: BaseModel) -> None:
    """Add each part's delta to the weights of a model without network."""
    for target in network.targets:
        layers: list[Any] = [model.transformer.get_submodule(name) for name in target.modules]
        whole = torch.cat([layer.weight for layer in layers])
        change = network.parts[target.name].delta(whole)
        for layer, rows in zip(layers, change.chunk(len(layers)), strict=True):
            layer.weight += rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_changes_nothing_at_first_and_then_what_its_deltas_say(
    kind: str, make_model: Models, latents: Tensor, embeds: Tensor
) -> None:
    model, plain = make_model("transformer"), make_model("transformer")
    with torch.no_grad():
        base = _predict(plain, latents, embeds)
        network = _network(model, kind)
        torch.testing.assert_close(_predict(model, latents, embeds), base, rtol=1e-5, atol=1e-5)
        train_network(network)
        found = _predict(model, latents, embeds)
        with network.multiplied(0):
            torch.testing.assert_close(_predict(model, latents, embeds), base, rtol=1e-5, atol=1e-5)
        _merge(network, plain)
        wanted = _predict(plain, latents, embeds)
    assert (wanted - base).norm() > 1e-3 * base.norm()
    assert (found - wanted).norm() < 1e-4 * (wanted - base).norm()


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_as_many_as_the_plan_counts_and_each_gets_a_gradient(
    kind: str, make_model: Models, latents: Tensor, embeds: Tensor
) -> None:
    model = make_model("transformer")
    network = _network(model, kind)
    assert network.num_parameters() == sum(num_weights(target, network.config) for target in network.targets)
    train_network(network)
    model.transformer.train()
    _predict(model, latents, embeds).square().mean().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_verified_and_starts_an_equal_network(
    kind: str, make_model: Models, latents: Tensor, embeds: Tensor, tmp_path: Path
) -> None:
    model, other = make_model("transformer"), make_model("transformer")
    network, fresh = _network(model, kind), _network(other, kind, seed=9)
    train_network(network)
    path = tmp_path / "network.safetensors"
    tensors = network.state_dict(torch.float32, _own_format(model))
    write_lora_file(path, tensors, {}, check=network.verifier(torch.float32))
    fresh.load_state_dict(dict(read_tensors(path)), source=str(path))
    with torch.no_grad():
        torch.testing.assert_close(
            _predict(other, latents, embeds), _predict(model, latents, embeds), rtol=1e-4, atol=1e-5
        )


def _own_format(model: BaseModel) -> str:
    """The format in which a target is a layer: FLUX.1's are diffusers' layers."""
    target = model.get_lora_targets()[0]
    return "diffusers" if target.name == target.modules[0] else "bfl"
