"""The backward pass written by hand, against autograd's of the same blocks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.lean import attach_lean
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from extensions_built_in.diffusion_models.lean.attention import KeptAttention
from extensions_built_in.diffusion_models.lean.forward import LeanForward
from tests.tiny import tiny_model
from toolkit.config import NetworkConfig
from toolkit.networks.network import Network
from toolkit.parallel.weight_layout import WholeWeights
from toolkit.randomness import Draws
from toolkit.runtime import devices
from toolkit.runtime.devices import autocast

CPU = torch.device("cpu")


def adapted(*, network: dict[str, Any] | None = None, **options: Any) -> tuple[Flux2TinyModel, Network]:
    """The tiny model with a LoRA that has learned something."""
    model = tiny_model("transformer", **options)
    config = NetworkConfig.model_validate({"type": "lora", "linear": 4, "linear_alpha": 6, **(network or {})})
    trained = Network(model, config, Draws(0))
    trained.apply()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    model.transformer.train()
    return model, trained


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def results(
    model: Any, network: Network, *, dtype: torch.dtype = torch.float32, batch: int = 1, with_reference: bool = False
) -> list[Tensor]:
    """The velocity and the gradients of everything trained."""
    latents, embeds = drawn(batch, 64, 6, 4, seed=1), drawn(batch, 48, 192, seed=2)
    references = [drawn(batch, 64, 3, 4, seed=3)] if with_reference else []
    for parameter in network.parameters():
        parameter.grad = None
    with autocast(CPU, dtype):
        velocity = predict_velocity(
            model.transformer, latents, torch.full((batch,), 0.4), embeds, guidance=1.0, references=references
        )
    (velocity.float() * drawn(*velocity.shape, seed=4)).sum().backward()
    return [velocity.detach().float(), *(p.grad for p in network.parameters() if p.grad is not None)]


def errors(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    assert len(found) == len(wanted)
    return [float((one - other).norm() / other.norm()) for one, other in zip(found, wanted, strict=True)]


def leaned(model: Any, *, keeps: float) -> Iterator[LeanForward]:
    return iter(attach_lean(model.transformer, model.device_of, keeps=keeps))


@pytest.mark.parametrize("keeps", [1.0, 2.0])
@pytest.mark.parametrize("options", [{}, {"batch": 2}, {"with_reference": True}], ids=str)
def test_in_fp32_all_gradients_are_those_of_autograd(keeps: float, options: dict[str, Any]) -> None:
    model, network = adapted()
    wanted = results(model, network, **options)
    assert all(block.reason is None for block in leaned(model, keeps=keeps))
    assert max(errors(results(model, network, **options), wanted)) < 1e-5


def rounded(model: Any, dtype: torch.dtype) -> None:
    """Round the frozen weights to bf16, and store them in a dtype."""
    for parameter in model.transformer.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16().to(dtype)


@pytest.mark.parametrize("keeps", [1.0, 2.0])
@pytest.mark.parametrize("has_bf16", [False, True], ids=["fp32 products", "bf16 products"])
def test_in_bf16_gradients_are_as_near_to_exact_ones_as_those_of_autograd(
    has_bf16: bool, keeps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_has_bf16_products", lambda: has_bf16)
    model, network = adapted()
    rounded(model, torch.float32)
    exact = results(model, network)
    rounded(model, torch.bfloat16)
    autograd = errors(results(model, network, dtype=torch.bfloat16), exact)
    attach_lean(model.transformer, model.device_of, keeps=keeps)
    lean = errors(results(model, network, dtype=torch.bfloat16), exact)
    assert sum(lean) <= 1.05 * sum(autograd)
    assert max(lean) < 3e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_recomputed_changes_no_bit(dtype: torch.dtype) -> None:
    model, network = adapted()
    rounded(model, dtype)
    found = []
    for keeps in (0.0, 0.5, 1.0, 1.5, 2.0):
        model.prepare_backward(recomputes=True, keeps=keeps)
        found.append(results(model, network, dtype=dtype))
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


@pytest.mark.parametrize("goes_back", [False, True])
def test_nothing_is_left_of_a_pass(goes_back: bool) -> None:
    model, _ = adapted()
    attach_lean(model.transformer, model.device_of, keeps=2.0)
    latents, embeds = drawn(1, 64, 2, 2, seed=1), drawn(1, 48, 192, seed=2)

    def run() -> int:
        velocity = predict_velocity(model.transformer, latents, torch.full((1,), 0.4), embeds, guidance=1.0)
        if goes_back:
            velocity.sum().backward()
        del velocity
        return sum(type(thing) is KeptAttention for thing in gc.get_objects())

    assert run() == 0, "the graph of each block's attention holds itself"


NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"type": "dora"}, "its network is not a LoRA"),
    "dropout": ({"dropout": 0.1}, "its LoRA has dropout"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_have_the_backward_pass_of_autograd_and_the_line_says_so(name: str) -> None:
    config, why = NETWORKS[name]
    model, network = adapted(network={"linear_alpha": 4, **config})
    model.transformer.eval()  # without dropout both passes are the same
    wanted = results(model, network)
    line = model.prepare_backward(recomputes=True)
    assert line == f"backward pass: of 6 blocks, 6 are recomputed by autograd, because {why}"
    assert max(errors(results(model, network), wanted)) < 1e-6


def test_an_adapter_on_a_block_leaves_the_others_lean() -> None:
    model, network = adapted()
    wanted = results(model, network)
    model.transformer.single_transformer_blocks[1].attn.norm_q.register_forward_hook(lambda *_: None)
    line = model.prepare_backward(recomputes=False)
    assert "5 keep all that they need; 1 keep what autograd keeps" in line
    assert max(errors(results(model, network), wanted)) < 1e-5


@pytest.mark.parametrize("chosen", ["single_blocks.2", "double_blocks.1.txt_mlp", "single_blocks.0.linear1"])
def test_a_lora_on_some_layers_gets_the_same_gradients(chosen: str) -> None:
    model, network = adapted(network={"network_kwargs": {"only_if_contains": [chosen]}})
    wanted = results(model, network)
    for keeps in (1.0, 2.0):
        attach_lean(model.transformer, model.device_of, keeps=keeps)
        assert max(errors(results(model, network), wanted)) < 1e-5


def test_at_another_strength_gradients_are_those_of_that_strength() -> None:
    model, network = adapted()
    with network.multiplied(-0.5):
        wanted = results(model, network)
        attach_lean(model.transformer, model.device_of, keeps=1.0)
        assert max(errors(results(model, network), wanted)) < 1e-5


def test_a_trained_modulation_gets_its_gradient() -> None:
    model, network = adapted(network={"transformer_only": False})
    wanted = results(model, network)
    line = model.prepare_backward(recomputes=True)
    assert line == "backward pass: of 6 blocks, 6 are recomputed by autograd, because what modulates it is trained"
    assert max(errors(results(model, network), wanted)) < 1e-5


def test_what_blocks_share_in_a_pass_is_gone_after_it() -> None:
    model, network = adapted()
    shared = attach_lean(model.transformer, model.device_of, keeps=1.0)[0].shared
    results(model, network)
    assert not shared._given
    assert not shared._rotations


def test_on_weights_that_ranks_share_the_line_says_why_the_pass_is_that_of_autograd() -> None:
    model, _ = adapted()

    class Shared(WholeWeights):
        is_whole = False

    model.layout = Shared()
    line = model.prepare_backward(recomputes=False)
    assert line == "backward pass: blocks keep what autograd keeps, because ranks share their weights"
