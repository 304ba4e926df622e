"""toolkit.networks.merged, and runs with `train.merge_network_on_save`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel

from tests.contract.test_networks import KINDS, train_network
from tests.live_bytes import LiveBytes
from tests.tiny import checked_of, losses, problems_of, run_job, saved_state, tiny_model, write_job
from tests.toolkit.networks.test_kinds import predict
from toolkit.config import NetworkConfig
from toolkit.errors import UserError
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.train.trainable import MergedWeights
from toolkit.weights.tensor_files import num_bytes, read_metadata, read_tensors

MERGE = {"merge_network_on_save": True}


def _trained(kind: str, **model: Any) -> Network:
    network = Network(tiny_model("transformer", **model), NetworkConfig.model_validate(KINDS[kind]), Draws(7))
    network.apply()
    train_network(network)
    return network


def _save(network: Network, base: Path, *, save_format: str = "diffusers", strength: float = 1.0) -> Path:
    weights = MergedWeights(network, save_format=save_format, strength=strength)
    return weights.save(base, dtype=torch.float32, metadata={"format": "pt"})[0]


def _as_diffusers_reads(folder: Path) -> Any:
    model = tiny_model()
    model.transformer = Flux2Transformer2DModel.from_pretrained(folder, subfolder="transformer", dtype=torch.float32)
    return model


QUANTIZED = {"quantize": True, "quantize_cache": False}
STREAMED = {"layer_offloading": True, "layer_offloading_transformer_percent": 1.0}


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        *((kind, {}) for kind in KINDS),
        ("lora", QUANTIZED),
        ("dora", QUANTIZED),
        ("lora", STREAMED),
        ("dora", QUANTIZED | STREAMED),
    ],
)
def test_diffusers_reads_the_model_that_was_trained(kind: str, model: dict[str, Any], tmp_path: Path) -> None:
    network = _trained(kind, **model)
    base, wanted = predict(tiny_model("transformer")), predict(network.model)
    _save(network, tmp_path / "model")
    assert (predict(_as_diffusers_reads(tmp_path / "model")) - wanted).norm() < 1e-4 * (wanted - base).norm()


def test_a_strength_is_that_of_the_network(tmp_path: Path) -> None:
    network = _trained("lora")
    with network.multiplied(0.5):
        wanted = predict(network.model)
    _save(network, tmp_path / "model", strength=0.5)
    assert torch.allclose(predict(_as_diffusers_reads(tmp_path / "model")), wanted, atol=1e-4)


def test_the_single_file_is_like_the_released_one_and_made_weight_by_weight(tmp_path: Path) -> None:
    network = _trained("mixed ranks and kinds")
    model = network.model
    with LiveBytes() as live:
        weights = {name: tensor.detach() for name, tensor in model.transformer.state_dict().items()}
        before = live.now
        path = _save(network, tmp_path / "model", save_format="safetensors")
    base = saved_state(tiny_model("transformer"))
    found, largest = read_tensors(path), max(tensor.numel() for tensor in base.values())
    assert found.keys() == base.keys()
    for target in network.targets:
        key = f"{target.name}.weight"
        wanted = base[key] + network.parts[target.name].delta(base[key]).detach()
        assert torch.allclose(found[key], wanted, atol=1e-6)
    assert live.peak - before <= largest * (16 + 4) < num_bytes(weights)


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    network = _trained("lora")
    with torch.no_grad():
        network.parameters()[0].fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        _save(network, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_run_saves_merged_models_and_learns_as_without(tmp_path: Path) -> None:
    ema = {"ema_config": {"use_ema": True, "save_raw": True}, "steps": 4}
    outputs = {}
    for name, train in (("plain", ema), ("merged", ema | MERGE)):
        (tmp_path / name).mkdir()
        path = write_job(tmp_path / name, train=train, save={"save_every": 2}, model={"quantize": True})
        run_job(path, None, *([] if name == "plain" else ["save.save_format=diffusers"]))
        outputs[name] = tmp_path / name / "output" / "job"
    plain, merged = outputs["plain"], outputs["merged"]
    assert losses(plain) == losses(merged)
    names = {"job", "job_000000002", "job_raw", "job_raw_000000002"}
    assert names <= {path.name for path in merged.iterdir()}
    file = merged / "job" / "transformer" / "diffusion_pytorch_model.safetensors"
    assert read_tensors(file).keys() == tiny_model("transformer").transformer.state_dict().keys()
    assert "lora" not in read_metadata(file)["modelspec.architecture"]
    before = file.stat().st_mtime_ns
    assert run_job(path, None, "save.save_format=diffusers").status == "done"
    assert file.stat().st_mtime_ns == before  # nothing was left to do


def test_the_plan_counts_whole_models_and_says_what_becomes_of_quantized_weights(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = checked_of(tmp_path / "plain", model={"quantize": True})
    merged = checked_of(tmp_path, train=MERGE, model={"quantize": True})
    whole = num_bytes(tiny_model("transformer").transformer.state_dict())
    assert merged.disk.sizes["checkpoints"] - plain.disk.sizes["checkpoints"] > 2 * whole * 0.9
    assert any("with the network merged in" in line and "dequantized" in line for line in merged.lines)


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"network": None, "train": {"full_finetune": True}}, "trains none"),
        ({"adapter": {"type": "mean_flow"}, "train": {}}, "does not work with `adapter`"),
    ],
)
def test_what_cannot_be_merged_is_refused(sections: dict[str, Any], what: str, tmp_path: Path) -> None:
    sections["train"] |= MERGE
    assert any(what in problem for problem in problems_of(tmp_path, **sections))
