"""toolkit.networks.kinds.lora"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel

from tests.tiny import TINY, tiny_model
from toolkit.config import NetworkConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.kinds.lora import LoraPart
from toolkit.networks.network import Network
from toolkit.networks.part import Site
from toolkit.networks.targets import choose_targets
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import write_tensors

ARGUMENTS = (
    torch.randn(1, 64, 2, 3, generator=torch.Generator().manual_seed(0)),
    torch.tensor([400.0]),
    Condition(torch.randn(1, 48, 192, generator=torch.Generator().manual_seed(1))),
)


def _network(model: BaseModel | None = None, **options: object) -> Network:
    config = NetworkConfig.model_validate({"linear": 4, **options})
    network = Network(model or tiny_model("transformer"), config, Draws(7))
    network.apply()
    return network


def _trained(**options: Any) -> Network:
    """A network whose weights are as different from the start as after training."""
    network = _network(**options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network


def _predict(model: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        return model.get_noise_prediction(*ARGUMENTS)


def test_a_new_network_changes_nothing() -> None:
    assert torch.equal(_predict(_network().model), _predict(tiny_model("transformer")))


def test_weights_are_fp32_and_the_only_ones_trained() -> None:
    model = tiny_model("transformer")
    model.transformer.to(torch.bfloat16)
    network = _network(model)
    trained = {id(p) for p in model.transformer.parameters() if p.requires_grad}
    assert trained == {id(p) for p in network.parameters()}
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_fused_layers_share_a_so_that_the_file_has_the_asked_rank() -> None:
    state = _trained().state_dict(torch.float32)
    name = "diffusion_model.double_blocks.0.img_attn.qkv"
    assert state[f"{name}.lora_A.weight"].shape == (4, 192)
    assert state[f"{name}.lora_B.weight"].shape == (3 * 192, 4)
    assert len(state) == 2 * (2 * 8 + 4 * 2)
    assert not any("alpha" in key for key in state)


def test_the_start_depends_on_the_seed_alone() -> None:
    one, other = _network(), _network()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("alpha", [4, 1, 8])
def test_diffusers_loads_the_file_without_a_warning_and_predicts_the_same(
    alpha: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = _trained(linear_alpha=alpha)
    write_tensors(tmp_path / "lora.safetensors", network.state_dict(torch.float32), {"format": "pt"})
    pipeline = Flux2KleinPipeline(
        scheduler=None,
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=Flux2Transformer2DModel.from_pretrained(TINY, subfolder="transformer", dtype=torch.float32),
    )
    model = tiny_model()
    model.transformer = pipeline.transformer
    base = _predict(model)
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    assert caplog.records == []
    expected = _predict(network.model)
    assert (expected - base).norm() > 1e-3 * base.norm()
    assert (_predict(model) - expected).norm() < 1e-5 * (expected - base).norm()


def test_a_saved_file_is_loaded_back() -> None:
    saved, fresh = _trained(linear_alpha=2), _network(linear_alpha=2)
    fresh.load_state_dict(saved.state_dict(torch.float32), source="lora.safetensors")
    assert torch.allclose(_predict(saved.model), _predict(fresh.model), atol=1e-6)


def test_a_file_of_another_rank_is_refused() -> None:
    with pytest.raises(UserError, match=r"lora\.safetensors: has rank 8, but network\.linear is 4.*resize"):
        _network().load_state_dict(_trained(linear=8).state_dict(torch.float32), source="lora.safetensors")


def test_a_file_with_other_layers_is_refused() -> None:
    some = _trained(network_kwargs={"only_if_contains": ["single_blocks"]})
    with pytest.raises(UserError, match="differ from this job's"):
        _network().load_state_dict(some.state_dict(torch.float32), source="lora.safetensors")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 24),
        ({"network_kwargs": {"only_if_contains": ["transformer.single_blocks"]}}, 8),
        ({"network_kwargs": {"only_if_contains": ["img_attn.qkv"]}}, 2),
        ({"network_kwargs": {"only_if_contains": ["attn.to_k"]}}, 2),
        ({"network_kwargs": {"ignore_if_contains": ["double_blocks", "linear2"]}}, 4),
        ({"transformer_only": False}, 24 + 8),
    ],
)
def test_filters_search_the_released_names_and_ours(options: dict[str, object], expected: int) -> None:
    config = NetworkConfig.model_validate({"linear": 4, **options})
    assert len(choose_targets(tiny_model("transformer"), config)) == expected


def test_filters_that_leave_nothing_are_an_error() -> None:
    config = NetworkConfig.model_validate({"network_kwargs": {"only_if_contains": ["unet"]}})
    with pytest.raises(UserError, match=r"leave no layer.*double_blocks"):
        choose_targets(tiny_model("transformer"), config)


def test_a_multiplier_of_zero_is_the_base_model_and_goes_away_again() -> None:
    network = _trained()
    with network.multiplied(0.0):
        assert torch.allclose(_predict(network.model), _predict(tiny_model("transformer")), atol=1e-6)
    assert not torch.allclose(_predict(network.model), _predict(tiny_model("transformer")), atol=1e-3)


def test_dropout_is_of_the_inner_values_of_rank_r() -> None:
    network = _trained(dropout=0.5)
    part = network.parts["single_blocks.0.linear2"]
    assert isinstance(part, LoraPart)
    site, values = Site(0, ((0, 192),), ()), torch.randn(5000, part.shape.inputs)
    with torch.no_grad():
        part.lora_B[0].copy_(torch.eye(192)[:, :4])  # the inner values become the output
        whole = part.after(values, torch.zeros(5000, 192), site, 1.0, training=False)[:, :4]
        dropped = part.after(values, torch.zeros(5000, 192), site, 1.0, training=True)[:, :4]
    kept = dropped != 0
    assert 0.4 < kept.float().mean() < 0.6
    assert torch.allclose(dropped[kept], 2 * whole[kept])


def test_dropout_is_off_while_sampling() -> None:
    network = _trained(dropout=0.5)
    network.model.transformer.eval()
    assert torch.equal(_predict(network.model), _predict(network.model))


@pytest.mark.parametrize("file_format", ["bfl", "diffusers", "kohya"])
def test_a_file_of_any_format_starts_a_training(file_format: str) -> None:
    saved, fresh = _trained(linear_alpha=2), _network()
    fresh.load_state_dict(saved.state_dict(torch.float32, file_format), source="lora.safetensors")
    assert torch.allclose(_predict(saved.model), _predict(fresh.model), atol=1e-5)


def _split_file() -> dict[str, torch.Tensor]:
    """A LoRA of rank 4 as peft trains it on diffusers' model: q, k and v have A of their own."""
    generator = torch.Generator().manual_seed(5)
    state = _trained().state_dict(torch.float32, "diffusers")
    return {key: torch.randn(tensor.shape, generator=generator) * 0.05 for key, tensor in state.items()}


def test_layers_trained_apart_need_the_sum_of_their_ranks() -> None:
    with pytest.raises(UserError, match=r"rank 12 .*others have 4.*Set network\.linear: 12"):
        _network().load_state_dict(_split_file(), source="lora.safetensors")
    network = _network(linear=12)
    network.load_state_dict(_split_file(), source="lora.safetensors")
    state = network.state_dict(torch.float32)
    expected = network.model.convert_lora_weights_before_load(_split_file())
    for key in (key for key in expected if "lora_A" in key):
        a, b = expected[key], expected[key.replace("lora_A", "lora_B")]
        found = state[f"diffusion_model.{key.replace('lora_A', 'lora_B')}"] @ state[f"diffusion_model.{key}"]
        assert torch.allclose(found, b @ a, atol=1e-6)


def test_rank_that_the_file_does_not_use_can_still_learn() -> None:
    network = _network(linear=12)
    network.load_state_dict(_split_file(), source="lora.safetensors")
    assert all((p != 0).any(dim=1).all() for name, p in network.named_parameters() if name.endswith("lora_A"))


def test_layers_trained_apart_are_taken_at_their_rank_where_that_is_exact() -> None:
    state = _split_file()
    for key in list(state):
        name, _, layer = key.removesuffix(".lora_A.weight").rpartition(".")
        if key.endswith("lora_A.weight") and layer in ("to_k", "to_v", "add_k_proj", "add_v_proj"):
            first = "to_q" if layer.startswith("to_") else "add_q_proj"
            state[key] = state[f"{name}.{first}.lora_A.weight"] * 2  # other numbers, but the same row space
    network = _network(linear=4)
    network.load_state_dict(state, source="lora.safetensors")
    wide = _network(linear=12)
    wide.load_state_dict(state, source="lora.safetensors")
    assert torch.allclose(_predict(network.model), _predict(wide.model), atol=1e-5)


def test_a_file_of_another_model_is_refused() -> None:
    state = _trained().state_dict(torch.float32)
    key = "diffusion_model.single_blocks.0.linear2.lora_B.weight"
    state[key] = state[key][:-1]
    with pytest.raises(UserError, match=r"single_blocks\.0\.linear2.*made for another model"):
        _network().load_state_dict(state, source="lora.safetensors")
