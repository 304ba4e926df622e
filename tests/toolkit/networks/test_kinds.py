"""toolkit.networks.kinds: what other programs make of the files, and whole runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from torch import Tensor

from jobs.job import Job
from tests.comfy import apply_lora
from tests.contract.test_networks import KINDS, train_network
from tests.small_run import SmallRun
from tests.tiny import TINY, saved_state, tiny_model, write_job
from toolkit.config import NetworkConfig, load_job
from toolkit.errors import Interrupted, UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.kinds.dora import DoraPart
from toolkit.networks.kinds.lora import LoraPart
from toolkit.networks.network import Network
from toolkit.networks.part import Site
from toolkit.networks.settings import lokr_split
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_tensors, write_tensors

OTHERS = {kind: options for kind, options in KINDS.items() if options["type"] != "lora"}


def _trained(options: dict[str, Any], model: BaseModel | None = None) -> Network:
    network = Network(model or tiny_model("transformer"), NetworkConfig.model_validate(options), Draws(7))
    network.apply()
    train_network(network)
    return network


@torch.no_grad()
def _wanted(network: Network) -> dict[str, Tensor]:
    """The weights of the released model with the network added."""
    base = saved_state(tiny_model("transformer"))
    for target in network.targets:
        key = f"{target.name}.weight"
        base[key] = base[key] + network.parts[target.name].delta(base[key])
    return base


def _velocity(model: BaseModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents, embeds = torch.randn(1, 64, 2, 3, generator=generator), torch.randn(1, 48, 192, generator=generator)
    return model.get_noise_prediction(latents, torch.tensor([400.0]), Condition(embeds))


@torch.no_grad()
def predict(model: BaseModel) -> Tensor:
    return _velocity(model)


def _error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    base = saved_state(tiny_model("transformer"))
    change = sum(float((wanted[key] - base[key]).square().sum()) for key in base) ** 0.5
    return sum(float((found[key] - wanted[key]).square().sum()) for key in base) ** 0.5 / change


@pytest.mark.parametrize("kind", OTHERS)
def test_comfyui_makes_the_trained_weights_of_a_file(kind: str) -> None:
    network = _trained(OTHERS[kind])
    found, unused = apply_lora(saved_state(tiny_model("transformer")), network.state_dict(torch.float32))
    assert unused == []
    assert _error(found, _wanted(network)) < 1e-5


@pytest.mark.parametrize("kind", OTHERS)
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(kind: str, tmp_path: Path) -> None:
    train = {"ema_config": {"use_ema": True, "ema_decay": 0.9}, "gradient_accumulation": 2}
    run = SmallRun(train=train, network={**OTHERS[kind], "dropout": 0.2})
    run.run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run.run(tmp_path / "cut", stop_in=3)
    run.run(tmp_path / "cut")
    whole, cut = (read_tensors(tmp_path / name / "job.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.parametrize(
    ("size", "factor", "sides"),
    [(9216, -1, (96, 96)), (3072, -1, (48, 64)), (27648, -1, (144, 192)), (3072, 8, (8, 384)), (192, 5, (4, 48))],
)
def test_lokr_is_split_as_lycoris_does(size: int, factor: int, sides: tuple[int, int]) -> None:
    assert lokr_split(size, factor) == sides


@pytest.mark.parametrize("kind", [kind for kind, options in OTHERS.items() if options["type"] == "lokr"])
def test_diffusers_loads_a_lokr_and_predicts_the_same(kind: str, tmp_path: Path, caplog: Any) -> None:
    network = _trained(OTHERS[kind])
    write_tensors(tmp_path / "lora.safetensors", network.state_dict(torch.float32), {"format": "pt"})
    transformer = Flux2Transformer2DModel.from_pretrained(TINY, subfolder="transformer", dtype=torch.float32)
    pipeline = Flux2KleinPipeline(scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=transformer)
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    assert caplog.records == []
    model = tiny_model()
    model.transformer = pipeline.transformer
    base, wanted = predict(tiny_model("transformer")), predict(network.model)
    assert (predict(model) - wanted).norm() < 1e-4 * (wanted - base).norm()


def test_the_old_format_of_lokr_has_lycoris_names_which_comfyui_reads() -> None:
    network = _trained({"type": "lokr", "old_lokr_format": True})
    state = network.state_dict(torch.float32)
    assert "lycoris_transformer_blocks_0_attn_to_q.lokr_w1" in state
    found, unused = apply_lora(saved_state(tiny_model("transformer")), state)
    assert unused == []
    assert _error(found, _wanted(network)) < 1e-5


def test_a_lokr_on_q_k_and_v_is_refused_in_formats_that_have_them_apart() -> None:
    network = _trained({"type": "lokr", "lokr_factor": 4})
    with pytest.raises(UserError, match=r"qkv: cannot be written as `lycoris`.*blocks of 144 rows"):
        _trained({"type": "lokr", "lokr_factor": 4, "old_lokr_format": True}).state_dict(torch.float32)
    with pytest.raises(UserError, match=r"qkv: cannot be written as `diffusers`.*Choose the format `bfl`"):
        network.state_dict(torch.float32, "diffusers")


def test_a_file_of_another_factor_is_refused() -> None:
    network, other = _trained({"type": "lokr"}), _trained({"type": "lokr", "lokr_factor": 4})
    with pytest.raises(UserError, match=r"has lokr_w1 .*but the job trains lokr_w1 .*network\.type and its rank"):
        network.load_state_dict(other.state_dict(torch.float32), source="file")


def test_patterns_and_lora_plus_set_rank_scale_rate_and_kind_of_some_layers() -> None:
    network = _trained(
        {
            "linear": 4,
            "linear_alpha": 2,
            "loraplus_lr_ratio": 8,
            "patterns": [
                {"contains": "single_blocks.0", "linear": 2, "linear_alpha": 2, "lr": 5e-4},
                {"contains": "mlp.0", "type": "lokr", "lr": 2e-4},
            ],
        }
    )
    names = ("single_blocks.0.linear2", "single_blocks.1.linear2", "double_blocks.0.img_mlp.0")
    first, second, mlp = (network.parts[name] for name in names)
    assert (first.settings.rank, first.settings.scale, second.settings.rank, second.settings.scale) == (2, 1, 4, 0.5)
    assert set(mlp.tensors()) == {"lokr_w1", "lokr_w2"}
    rates = network.rates(1e-4)
    assert rates["single_blocks.0.linear2.lora_A"] == pytest.approx(5)
    assert rates["single_blocks.0.linear2.lora_B.0"] == pytest.approx(40)
    assert rates["double_blocks.0.img_mlp.0.lokr_w1"] == pytest.approx(2)
    assert "single_blocks.1.linear2.lora_A" not in rates


def test_each_weight_moves_at_its_own_rate(tmp_path: Path) -> None:
    def moved(network: dict[str, Any], folder: Path) -> dict[str, float]:
        SmallRun(train={"steps": 1, "lr": 1e-3}, network=network).run(folder)
        return {key: float(t.abs().max()) for key, t in read_tensors(folder / "job.safetensors").items()}

    pattern = {"contains": "linear2", "lr": 1e-2}
    found = moved({"type": "lora", "linear": 2, "patterns": [pattern]}, tmp_path)
    assert found["diffusion_model.single_blocks.0.linear2.lora_B.weight"] == pytest.approx(1e-2, rel=0.01)
    assert found["diffusion_model.single_blocks.0.linear1.lora_B.weight"] == pytest.approx(1e-3, rel=0.01)


def test_rslora_divides_alpha_by_the_root_of_the_rank() -> None:
    config = NetworkConfig.model_validate({"linear": 64, "linear_alpha": 16, "rs_lora": True})
    assert config.scale == 2


def test_rank_dropout_leaves_out_whole_ranks_of_a_sample_and_module_dropout_whole_layers() -> None:
    options = {"linear": 8, "network_kwargs": {"rank_dropout": 0.5}}
    part = _trained(options).parts["single_blocks.0.linear2"]
    assert isinstance(part, LoraPart)
    x, site = torch.randn(64, 5, part.shape.inputs), Site(0, ((0, 192),), ())
    with torch.no_grad():
        part.lora_B[0].copy_(torch.eye(192)[:, :8])
        dropped = part.after(x, torch.zeros(64, 5, 192), site, 1.0, training=True)[..., :8] == 0
    assert torch.equal(dropped.any(dim=1), dropped.all(dim=1))
    assert 0.35 < dropped.float().mean() < 0.65
    network = _trained({"linear": 2, "network_kwargs": {"module_dropout": 0.999}})
    network.model.transformer.train()
    torch.testing.assert_close(predict(network.model), predict(tiny_model("transformer")), rtol=1e-5, atol=1e-5)
    assert network.draws_numbers


def test_a_kind_that_is_left_out_is_refused_with_the_reason(tmp_path: Path) -> None:
    job = write_job(tmp_path, network={"type": "VeRA"})
    with pytest.raises(UserError, match="no program that draws pictures reads it; set `type: lokr`"):
        load_job(job)


def test_the_norm_of_a_dora_is_a_constant_for_the_gradient() -> None:
    """What scales the inputs depends on A and B only through the norm."""
    part = next(iter(_trained(KINDS["dora"]).parts.values()))
    for parameter in part.parameters():
        parameter.grad = None
    assert isinstance(part, DoraPart)
    part.before(torch.ones(1, part.shape.inputs), part._sites[0], 1.0).sum().backward()
    assert {name for name, parameter in part.named_parameters() if parameter.grad is not None} == {"dora_scale"}


def test_a_dora_beside_an_adapter_is_refused(tmp_path: Path) -> None:
    adapter = {"type": "control_lora"}
    job = write_job(tmp_path, network={"type": "dora"}, adapter=adapter)
    with pytest.raises(UserError, match="DoRA scales its layers' outputs, and an adapter adds to them"):
        Job(load_job(job)).check()


HELD: dict[str, dict[str, Any]] = {
    "checkpointed": {},
    "streamed": {"layer_offloading": True, "layer_offloading_transformer_percent": 0.5},
    "activations": {"activation_offloading": True},
}


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's own norms under autocast on a CPU
@pytest.mark.parametrize("kind", OTHERS)
def test_on_a_quantized_model_that_is_recomputed_and_offloaded_the_gradients_are_the_same(kind: str) -> None:
    quantized: dict[str, Any] = {"quantize": True, "quantize_te": False, "qtype": "int8", "quantize_cache": False}
    plain = _gradients({**OTHERS[kind], "dropout": 0.3}, quantized, is_checkpointed=False)
    for options in HELD.values():
        found = _gradients({**OTHERS[kind], "dropout": 0.3}, quantized | options, is_checkpointed=True)
        assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))


def _gradients(network: dict[str, Any], section: dict[str, Any], *, is_checkpointed: bool) -> list[Tensor]:
    """The prediction of a model at a strength of a half, and the gradients, under autocast to bf16."""
    model = tiny_model(**section)
    model.load("transformer")
    trained = _trained(network, model)
    if is_checkpointed:
        model.enable_gradient_checkpointing()
    model.transformer.train()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16), trained.multiplied(0.5):
        velocity = _velocity(model)
    velocity.float().square().mean().backward()
    return [velocity.detach(), *(parameter.grad for parameter in trained.parameters() if parameter.grad is not None)]
