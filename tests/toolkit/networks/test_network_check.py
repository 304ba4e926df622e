"""What the check of a job says of its network: filters, the file to start from, the file's format, the size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.job import Job
from tests.tiny import StopAfter, run_job, tiny_model, write_job
from toolkit.cards import find_cards
from toolkit.config import ModelConfig, NetworkConfig, load_job
from toolkit.errors import UserError
from toolkit.lora.update import SizedTarget, Update
from toolkit.models.published_model import PublishedModel
from toolkit.networks.network_check import trained_weights
from toolkit.networks.targets import by_run, choose_targets, planned_targets
from toolkit.output.events import read_events
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.plan_inputs import Workload
from toolkit.util.get_model import model_classes
from toolkit.weights.tensor_files import read_tensors, write_tensors


def _check(folder: Path, *, save: dict[str, Any] | None = None, **network: Any) -> list[str]:
    network = {"type": "lora", "linear": 4, **network}
    return Job(load_job(write_job(folder, network=network, save=save or {}))).check()


def _refusal(folder: Path, *, save: dict[str, Any] | None = None, **network: Any) -> str:
    with pytest.raises(UserError) as caught:
        _check(folder, save=save, **network)
    return str(caught.value)


def _unloaded(arch: str) -> PublishedModel:
    card = find_cards()[arch]
    config = ModelConfig.model_validate({"arch": arch, "name_or_path": card.source})
    model = model_classes()[arch](config, device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(model, PublishedModel)
    return model


def _lora_of(arch: str, path: Path, *, rank: int = 4, header: dict[str, str] | None = None, **network: Any) -> Path:
    model = _unloaded(arch)
    targets = planned_targets(model, NetworkConfig.model_validate(network)) or []
    updates = {t.name: Update(torch.eye(rank, t.inputs), torch.eye(t.outputs, rank)) for t in targets}
    write_tensors(path, model.write_lora(updates, "bfl"), header or {"format": "pt"})
    return path


# What is planned is what will be


def _sides(target: SizedTarget) -> int:
    return target.inputs + target.outputs


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"transformer_only": False},
        {"network_kwargs": {"only_if_contains": ["attn.to_k", "single_blocks.1"]}},
        {"network_kwargs": {"ignore_if_contains": ["mlp"]}},
        {"transformer_only": False, "network_kwargs": {"only_if_contains": ["adaLN_modulation"]}},
    ],
)
def test_the_planned_layers_are_those_of_the_loaded_model(network: dict[str, Any]) -> None:
    config, model = NetworkConfig.model_validate(network), tiny_model("transformer")
    planned = planned_targets(_unloaded("flux2_tiny"), config)
    assert planned is not None
    chosen = choose_targets(model, config)
    assert [(t.name, t.modules) for t in planned] == [(t.name, t.modules) for t in chosen]
    for target in planned:
        layers = [model.transformer.get_submodule(module) for module in target.modules]
        assert (target.inputs, target.outputs) == (layers[0].in_features, sum(layer.out_features for layer in layers))


@pytest.mark.parametrize("arch", [name for name, card in find_cards().items() if card.size is not None])
def test_layers_by_the_card_are_those_of_the_memory_plan(arch: str) -> None:
    model, size = _unloaded(arch), find_cards()[arch].size
    assert size is not None
    targets = [t for t in model.list_lora_targets(size.transformer) if not t.is_optional]
    assert by_run(
        targets, model.get_transformer_block_names(), lambda t: t.inputs + t.outputs
    ) == size.transformer.lora_sides(blocks_only=False)


def test_two_layers_of_klein_9b_are_counted_as_two(tmp_path: Path) -> None:
    names = ["transformer.single_blocks.7.linear2", "transformer.single_blocks.20.linear2"]
    config = NetworkConfig.model_validate({"linear": 128, "network_kwargs": {"only_if_contains": names}})
    model = _unloaded("flux2_klein_9b")
    targets = planned_targets(model, config) or []
    assert by_run(targets, model.get_transformer_block_names(), _sides) == (
        0,
        2 * (4 * 4096 + 4096),
        0,
    )


def test_all_layers_of_dev_at_rank_16_are_its_97_5_million_weights() -> None:
    config, model = NetworkConfig.model_validate({"linear": 16}), _unloaded("flux2")
    sides = by_run(planned_targets(model, config) or [], model.get_transformer_block_names(), _sides)
    assert 16 * sum(sides) == pytest.approx(97.5e6, rel=1e-3)


def test_disk_and_memory_follow_the_filters(tmp_path: Path) -> None:
    def disk(**network: Any) -> float:
        (line,) = (line for line in _check(tmp_path, linear=64, **network) if "up to checkpoints" in line)
        return float(line.split("checkpoints ")[1].split(",")[0].split()[0])

    def weights(**network: Any) -> int:
        process = load_job(write_job(tmp_path, network={"type": "lora", "linear": 64, **network})).training()
        sides, _ = trained_weights(_unloaded("flux2_tiny"), process)
        size = find_cards()["flux2_tiny"].size
        assert size is not None
        return inputs_of(process, size, Workload(1, 1), "cpu", lora_sides=sides).num_trained

    some = {"network_kwargs": {"only_if_contains": ["single_blocks.1.linear2"]}}
    everything, few = weights(), weights(**some)
    assert few == 64 * (4 * 192 + 192) < everything / 10
    assert disk(**some) <= disk()
    assert weights(transformer_only=False) > everything


# Filters


def test_filters_that_leave_nothing_are_refused_and_transformer_only_is_named_where_it_is_the_cause(
    tmp_path: Path,
) -> None:
    told = _refusal(tmp_path, network_kwargs={"only_if_contains": ["nothing"]})
    assert "the filters leave no layer to train" in told and "Names look like" in told
    told = _refusal(tmp_path, network_kwargs={"only_if_contains": ["time_in"]})
    assert "set `network.transformer_only: false`" in told
    told = _refusal(tmp_path, network_kwargs={"only_if_contains": ["linear1"], "ignore_if_contains": ["single_blocks"]})
    assert "ignore_if_contains excludes everything" in told


def test_a_filter_that_does_nothing_is_reported(tmp_path: Path) -> None:
    told = "\n".join(
        _check(
            tmp_path,
            network_kwargs={"only_if_contains": ["linear1", "linear9", "time_in"], "ignore_if_contains": ["x9"]},
        )
    )
    assert "only_if_contains: `linear9` matches no layer's name" in told
    assert "only_if_contains: `time_in` matches only layers outside the blocks" in told
    assert "ignore_if_contains: `x9` matches no layer's name" in told
    assert "`linear1`" not in told


def test_layers_that_are_trained_because_they_are_fused_are_reported(tmp_path: Path) -> None:
    told = "\n".join(_check(tmp_path, network_kwargs={"only_if_contains": ["attn.to_k"]}))
    assert "`attn.to_k` also trains to_q, to_v, in 2 layers" in told
    assert "also trains" not in "\n".join(_check(tmp_path, network_kwargs={"only_if_contains": ["img_attn.qkv"]}))
    assert "also" not in "\n".join(_check(tmp_path, network_kwargs={"only_if_contains": ["to_q", "to_k", "to_v"]}))


# The file to start from


def test_a_start_of_another_model_is_refused_with_both_names(tmp_path: Path) -> None:
    path = _lora_of("flux2_klein_9b", tmp_path / "lora.safetensors")
    told = _refusal(tmp_path, pretrained_lora_path=str(path))
    assert "is a LoRA for flux2_klein_9b; the job trains flux2_tiny" in told
    path = _lora_of("flux", tmp_path / "flux.safetensors")
    assert "is a LoRA for flux; the job trains flux2_tiny" in _refusal(tmp_path, pretrained_lora_path=str(path))


def test_a_start_of_another_rank_is_refused_with_the_number(tmp_path: Path) -> None:
    path = _lora_of("flux2_tiny", tmp_path / "lora.safetensors", rank=8)
    assert "Set network.linear: 8" in _refusal(tmp_path, pretrained_lora_path=str(path))
    assert _check(tmp_path, pretrained_lora_path=str(path), linear=8)


@pytest.mark.parametrize(
    ("network", "advice", "remedy"),
    [
        ({"transformer_only": False}, "`network.transformer_only: false`", {"transformer_only": False}),
        (
            {"network_kwargs": {"only_if_contains": ["img_attn.qkv"]}},
            "`network.network_kwargs: {only_if_contains: [img_attn.qkv]}`",
            {"network_kwargs": {"only_if_contains": ["img_attn.qkv"]}},
        ),
        (
            {"network_kwargs": {"only_if_contains": ["single_blocks"]}},
            "only_if_contains: [transformer.single_blocks.]",
            {"network_kwargs": {"only_if_contains": ["transformer.single_blocks."]}},
        ),
        (
            {"network_kwargs": {"only_if_contains": ["single_blocks.2.linear1"]}},
            "only_if_contains: [transformer.single_blocks.2.linear1]",
            {"network_kwargs": {"only_if_contains": ["transformer.single_blocks.2.linear1"]}},
        ),
    ],
)
def test_a_start_with_other_layers_is_refused_with_the_filter_that_fits(
    network: dict[str, Any], advice: str, remedy: dict[str, Any], tmp_path: Path
) -> None:
    path = _lora_of("flux2_tiny", tmp_path / "lora.safetensors", **network)
    told = _refusal(tmp_path, pretrained_lora_path=str(path))
    assert f"To train the file's layers, set {advice}" in told or advice in told
    assert _check(tmp_path, pretrained_lora_path=str(path), **remedy)


def test_a_start_without_filters_is_refused_where_the_job_has_some(tmp_path: Path) -> None:
    path = _lora_of("flux2_tiny", tmp_path / "lora.safetensors")
    told = _refusal(tmp_path, pretrained_lora_path=str(path), network_kwargs={"only_if_contains": ["linear1"]})
    assert "set no network_kwargs" in told


def test_a_start_that_is_no_lora_is_refused_by_its_kind(tmp_path: Path) -> None:
    path = _lora_of("flux2_tiny", tmp_path / "lora.safetensors")
    state = dict(read_tensors(path))
    layer = "diffusion_model.single_blocks.0.linear1"
    state[f"{layer}.dora_scale"] = torch.ones(state[f"{layer}.lora_B.weight"].shape[0], 1)
    write_tensors(path, state)
    assert "DoRA" in _refusal(tmp_path, pretrained_lora_path=str(path))


# The format


def test_a_format_that_cannot_carry_the_layers_is_refused_at_the_check(tmp_path: Path) -> None:
    told = _refusal(tmp_path, transformer_only=False, save={"lora_format": "kohya"})
    assert "save.lora_format" in told and "Write the file as `bfl`" in told


def test_training_continues_from_a_lora_of_every_layer_of_ai_toolkit_and_writes_it_as_bfl(tmp_path: Path) -> None:
    targets = tiny_model().list_lora_targets(find_cards()["flux2_tiny"].size.transformer)  # type: ignore[union-attr]
    assert len(targets) == 33
    generator = torch.Generator().manual_seed(0)
    updates = {
        t.name: Update(
            torch.randn(4, t.inputs, generator=generator), torch.randn(t.outputs, 4, generator=generator) * 1e-3
        )
        for t in targets
    }
    path = tmp_path / "all.safetensors"
    write_tensors(path, _unloaded("flux2_tiny").write_lora(updates, "bfl"))
    network = {"type": "lora", "linear": 4, "transformer_only": False, "pretrained_lora_path": str(path)}
    train = {"steps": 1, "batch_size": 1, "lr": 1e-9}
    assert run_job(write_job(tmp_path, network=network, train=train)).status == "done"
    before, after = read_tensors(path), read_tensors(tmp_path / "output" / "job" / "job.safetensors")
    assert before.keys() == after.keys()
    assert [k for k, t in before.items() if not torch.allclose(after[k], t, atol=1e-6)] == []


def test_the_learning_rates_of_patterns_and_lora_plus_are_in_the_plan_and_in_the_events_of_a_resumed_run(
    tmp_path: Path,
) -> None:
    pattern = {"contains": "single_blocks.0", "lr": 5e-3}
    network = {
        "linear": 2,
        "loraplus_lr_ratio": 4,
        "patterns": [pattern],
        "network_kwargs": {"only_if_contains": ["linear2"]},
    }
    averaged = {"ema_config": {"use_ema": True}, "lr_scheduler": "linear"}
    job = write_job(tmp_path, network=network, train={"steps": 4, **averaged}, save={"save_every": 2})
    lines = Job(load_job(job)).check()
    assert any(
        re.search(r"0.001 for (\d+), 0.004 for \1, 0.005 for 1, 0.02 for 1 of the network's \d+ matrices", line)
        for line in lines
    )
    run_job(job, StopAfter(3))
    run_job(job)
    events = read_events(tmp_path / "output" / "job" / "events.jsonl")
    steps = {event["step"]: event for event in events if event["kind"] == "step"}
    assert sorted(steps) == [1, 2, 3, 4]
    for event in steps.values():
        wanted = {f"lr x{factor}": pytest.approx(event["lr"] * factor) for factor in (4, 5, 20)}
        assert event["rates"] == wanted
    assert steps[4]["lr"] < steps[1]["lr"]
