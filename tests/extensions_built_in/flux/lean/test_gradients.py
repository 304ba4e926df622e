"""The backward pass written by hand for FLUX.1's blocks, against autograd's of the same blocks."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux.flux_model import FluxModel
from extensions_built_in.diffusion_models.flux.lean import attach_lean
from extensions_built_in.diffusion_models.flux.transformer import predict_velocity
from extensions_built_in.diffusion_models.lean import pieces
from extensions_built_in.diffusion_models.lean.attention import KeptAttention
from extensions_built_in.diffusion_models.lean.compiled import FOR_COMPILER
from tests.extensions_built_in.flux2.lean.test_gradients import drawn, errors
from tests.tiny_flux import tiny_flux
from toolkit.compute.compiler import Compiler
from toolkit.config import NetworkConfig
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.runtime import devices
from toolkit.runtime.devices import autocast

CPU = torch.device("cpu")
Sections = dict[str, dict[str, Any]]


def adapted(
    section: dict[str, Any], *, network: dict[str, Any] | None = None, **options: Any
) -> tuple[FluxModel, Network]:
    """The tiny model with a LoRA that has learned something."""
    model = tiny_flux(section, "transformer", **options)
    config = NetworkConfig.model_validate({"type": "lora", "linear": 4, "linear_alpha": 6, **(network or {})})
    trained = Network(model, config, Draws(0))
    trained.apply()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    model.transformer.train()
    return model, trained


def results(
    model: FluxModel, network: Network, *, dtype: torch.dtype = torch.float32, batch: int = 1, references: int = 0
) -> list[Tensor]:
    """The velocity and the gradients of everything trained."""
    latents, embeds = drawn(batch, 16, 6, 4, seed=1), drawn(batch, 8, 32, seed=2)
    shown = [drawn(batch, 16, 4, 4, seed=3)] * references
    for parameter in network.parameters():
        parameter.grad = None
    with autocast(CPU, dtype):
        sigma = torch.tensor([0.5, 0.25])[:batch]  # with the guidance, numbers that bf16 has, too
        velocity = predict_velocity(model.transformer, latents, sigma, embeds, guidance=4.0, references=shown)
    (velocity.float() * drawn(*velocity.shape, seed=4)).sum().backward()
    return [velocity.detach().float(), *(p.grad for p in network.parameters() if p.grad is not None)]


def attach(model: FluxModel, keeps: float) -> None:
    blocks = attach_lean(model.transformer, model.device_of, keeps=keeps)
    assert [block.reason for block in blocks] == [None] * 4


@pytest.mark.parametrize("options", [{}, {"batch": 2}, {"references": 1}], ids=str)
def test_in_fp32_all_gradients_are_those_of_autograd(options: dict[str, Any], sections: Sections) -> None:
    model, network = adapted(sections["dev"])
    wanted = results(model, network, **options)
    assert len(wanted) == 1 + 2 * (2 * 14 + 2 * 6)
    for keeps in (1.0, 2.0):
        attach(model, keeps)
        assert max(errors(results(model, network, **options), wanted)) < 1e-5


@pytest.mark.parametrize("kind", ["schnell", "kontext"])
def test_blocks_of_every_model_of_the_family_have_it(kind: str, sections: Sections) -> None:
    model, network = adapted(sections[kind])
    wanted = results(model, network)
    attach(model, 2.0)
    assert max(errors(results(model, network), wanted)) < 1e-5


@pytest.mark.parametrize("has_bf16", [False, True], ids=["fp32 products", "bf16 products"])
def test_in_bf16_gradients_are_as_near_to_exact_ones_as_those_of_autograd(
    has_bf16: bool, sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_has_bf16_products", lambda: has_bf16)
    model, network = adapted(sections["dev"])  # its weights are those of a file in bf16
    exact = results(model, network)
    model.transformer.to(torch.bfloat16)
    for parameter in network.parameters():
        parameter.data = parameter.data.float()
    autograd = errors(results(model, network, dtype=torch.bfloat16), exact)
    for keeps in (1.0, 2.0):
        attach(model, keeps)
        lean = errors(results(model, network, dtype=torch.bfloat16), exact)
        assert sum(lean) <= 1.05 * sum(autograd)
        assert max(lean) < 5e-2


def test_what_is_recomputed_changes_no_bit(sections: Sections) -> None:
    model, network = adapted(sections["dev"])
    found = []
    for keeps in (0.0, 0.5, 1.0, 1.5, 2.0):
        model.prepare_backward(recomputes=True, keeps=keeps)
        found.append(results(model, network, batch=2))
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


def test_offloaded_inputs_change_no_bit(sections: Sections) -> None:
    model, network = adapted(sections["dev"])
    model.prepare_backward(recomputes=False)
    wanted = results(model, network)
    offloading, others = adapted(sections["dev"], activation_offloading=True)
    line = offloading.prepare_backward(recomputes=True, keeps=2.0)
    assert line == "backward pass: of 4 blocks, 4 are recomputed as a whole"
    assert all(torch.equal(*pair) for pair in zip(results(offloading, others), wanted, strict=True))


@pytest.mark.parametrize(
    "chosen",
    [
        "transformer_blocks.1.attn.to_k",
        "single_transformer_blocks.0.attn.to_v",
        "single_transformer_blocks.1.proj_mlp",
        "norm1_context.linear",
        "single_transformer_blocks.0.norm.linear",
    ],
)
def test_a_lora_on_some_layers_gets_the_same_gradients(chosen: str, sections: Sections) -> None:
    model, network = adapted(sections["dev"], network={"network_kwargs": {"only_if_contains": [chosen]}})
    wanted = results(model, network)
    assert len(wanted) > 1
    for keeps in (1.0, 2.0):
        attach(model, keeps)
        assert max(errors(results(model, network), wanted)) < 1e-5


def test_loras_of_other_ranks_and_scales_side_by_side_get_the_same_gradients(sections: Sections) -> None:
    patterns = [
        {"contains": ["to_k"], "linear": 2, "linear_alpha": 1},
        {"contains": ["proj_mlp"], "linear": 8, "linear_alpha": 2},
    ]
    model, network = adapted(sections["dev"], network={"patterns": patterns})
    with network.multiplied(-0.5):
        wanted = results(model, network, batch=2)
        attach(model, 1.0)
        assert max(errors(results(model, network, batch=2), wanted)) < 1e-5


@pytest.mark.parametrize("qtype", ["int8", "qfloat8"])
def test_on_a_quantized_base_gradients_are_those_of_autograd(qtype: str, sections: Sections) -> None:
    options: dict[str, Any] = {"quantize": True, "qtype": qtype, "quantize_te": False, "quantize_cache": False}
    model, network = adapted(sections["dev"], **options)
    wanted = results(model, network)
    attach(model, 1.0)
    assert max(errors(results(model, network), wanted)) < 1e-5


@pytest.mark.parametrize("goes_back", [False, True])
def test_nothing_is_left_of_a_pass(goes_back: bool, sections: Sections) -> None:
    model, _ = adapted(sections["dev"])
    attach(model, 2.0)
    latents, embeds = drawn(1, 16, 4, 4, seed=1), drawn(1, 8, 32, seed=2)

    def run() -> int:
        velocity = predict_velocity(model.transformer, latents, torch.full((1,), 0.4), embeds, guidance=1.0)
        if goes_back:
            velocity.sum().backward()
        del velocity
        return sum(type(thing) is KeptAttention for thing in gc.get_objects())

    assert run() == 0
    shared = model.transformer.transformer_blocks[0].forward.shared
    assert not shared._given
    assert not shared._rotations


def test_a_trained_time_embedding_and_another_network_have_the_backward_pass_of_autograd(sections: Sections) -> None:
    cases: dict[str, dict[str, Any]] = {
        "what modulates it is trained": {"transformer_only": False},
        "its network is not a LoRA": {"type": "dora", "linear_alpha": 4},
    }
    for why, config in cases.items():
        model, network = adapted(sections["dev"], network=config)
        wanted = results(model, network)
        line = model.prepare_backward(recomputes=True)
        assert line == f"backward pass: of 4 blocks, 4 are recomputed by autograd, because {why}"
        assert max(errors(results(model, network), wanted)) < 1e-5


@pytest.mark.parametrize("batch", [1, 2])
def test_pieces_that_are_written_once_more_for_the_compiler_give_the_same(batch: int) -> None:
    x, weight, past = drawn(batch, 5, 8, seed=1), drawn(batch, 1, 8, seed=2), drawn(batch, 5, 8, seed=3)
    gradient = drawn(batch, 5, 8, seed=4)
    _, mean, rstd = pieces.modulate(x, weight, weight, 1e-6)
    arguments = (gradient, x, weight, mean, rstd, past)
    plain, again = pieces.modulate_backward_trained, FOR_COMPILER[pieces.modulate_backward_trained]
    for one, other in zip(plain(*arguments), again(*arguments), strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-5)
    found = []
    for own in (pieces.gelu_backward, FOR_COMPILER[pieces.gelu_backward]):
        overwritten = x.clone()
        found.append((own(gradient, overwritten, overwritten), overwritten))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.torture
@pytest.mark.parametrize("batch", [1, 2])
def test_compiled_blocks_have_the_same_gradients(batch: int, sections: Sections) -> None:
    torch.compiler.reset()
    model, network = adapted(sections["dev"])
    wanted = results(model, network, batch=batch)
    said: list[str] = []
    model.prepare_backward(recomputes=True)
    model.compile_blocks(Compiler(notify=said.append, warn=said.append, backend="eager"))
    assert max(errors(results(model, network, batch=batch), wanted)) < 1e-5
    assert said == ["model.compile: of 4 blocks, 4 are compiled"]
    torch.compiler.reset()
