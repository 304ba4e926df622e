"""python -m toolkit.lora on the files of every kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.test_networks import KINDS, train_network
from tests.tiny import tiny_model
from toolkit.config import NetworkConfig
from toolkit.lora.__main__ import main
from toolkit.lora.files import read_lora_file
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_tensors, write_tensors

KEY = "single_blocks.0.linear2.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.safetensors"
    write_tensors(path, tiny_model("transformer").model_state_to_save(), {})
    return path


def _file(kind: str, folder: Path, **options: Any) -> tuple[Network, Path]:
    section = {**KINDS[kind], "network_kwargs": {"only_if_contains": ["single_blocks.0", "img_attn"]}, **options}
    network = Network(tiny_model("transformer"), NetworkConfig.model_validate(section), Draws(7))
    network.apply()
    train_network(network)
    path = folder / "network.safetensors"
    write_tensors(path, network.state_dict(torch.float32), {"format": "pt", "ss_base_model_version": "flux2_tiny"})
    return network, path


@torch.no_grad()
def _changes(network: Network, base: Path) -> dict[str, torch.Tensor]:
    weights = read_tensors(base)
    return {name: part.delta(weights[f"{name}.weight"]) for name, part in network.parts.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_is_described_merged_and_written_as_a_lora(kind: str, base: Path, tmp_path: Path, capsys: Any) -> None:
    network, path = _file(kind, tmp_path)
    wanted, weights = _changes(network, base), read_tensors(base)
    assert main(["info", str(path)]) == 0
    assert "6 layers" in capsys.readouterr().out
    merged, lora = tmp_path / "merged.safetensors", tmp_path / "lora.safetensors"
    assert main(["merge", str(path), "--base", str(base), "--weight", "0.5", "--output", str(merged)]) == 0
    found = read_tensors(merged)
    for name, change in wanted.items():
        half = weights[f"{name}.weight"] + 0.5 * change
        torch.testing.assert_close(found[f"{name}.weight"], half, rtol=1e-4, atol=1e-5)
    assert main(["resize", str(path), "--energy", "1", "--base", str(base), "--output", str(lora)]) == 0
    updates = read_lora_file(lora).updates
    assert updates.keys() == wanted.keys()
    for name, change in wanted.items():
        torch.testing.assert_close(updates[name].delta(), change, rtol=1e-3, atol=1e-3 * float(change.abs().max()))


def test_a_kind_that_depends_on_the_weights_asks_for_them(tmp_path: Path, capsys: Any) -> None:
    _, path = _file("oft", tmp_path)
    assert main(["resize", str(path), "--rank", "4", "--output", str(tmp_path / "lora.safetensors")]) == 2
    assert "OFT, whose change depends on the model's weights. Name the model with --base" in capsys.readouterr().err


def test_the_difference_of_two_models_is_extracted_up_to_the_rank_or_energy_asked_for(
    base: Path, tmp_path: Path, capsys: Any
) -> None:
    network, path = _file("lora", tmp_path, linear=3)
    tuned, lora = tmp_path / "tuned.safetensors", tmp_path / "lora.safetensors"
    main(["merge", str(path), "--base", str(base), "--output", str(tuned)])
    arguments = ["extract", str(tuned), "--base", str(base), "--arch", "flux2_tiny", "--output", str(lora), "--force"]
    assert main([*arguments, "--rank", "3"]) == 0
    found = read_lora_file(lora).updates
    for name, change in _changes(network, base).items():
        torch.testing.assert_close(found[name].delta(), change, rtol=1e-3, atol=1e-5)
    assert main([*arguments, "--energy", "0.5"]) == 0
    assert max(update.rank for update in read_lora_file(lora).updates.values()) < 3
    assert main(["extract", str(base), "--base", str(base), "--rank", "1", "--output", str(tmp_path / "x")]) == 2
    assert "do not differ" in capsys.readouterr().err


def test_several_files_are_summed_with_weights_into_a_model_or_into_one_lora(base: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (one, first), (two, second) = _file("lora", tmp_path), _file("lora", tmp_path / "two", linear=4)
    weights = ["--weight", "0.5", "--weight", "2"]
    merged, joined = tmp_path / "merged.safetensors", tmp_path / "joined.safetensors"
    assert main(["merge", str(first), str(second), *weights, "--base", str(base), "--output", str(merged)]) == 0
    assert main(["merge", str(first), str(second), *weights, "--output", str(joined)]) == 0
    changes = (_changes(one, base), _changes(two, base))
    updates, plain = read_lora_file(joined).updates, read_tensors(base)
    for name in changes[0]:
        wanted = 0.5 * changes[0][name] + 2 * changes[1][name]
        torch.testing.assert_close(updates[name].delta(), wanted, rtol=1e-4, atol=1e-5)
        found = read_tensors(merged)[f"{name}.weight"] - plain[f"{name}.weight"]
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    assert updates["single_blocks.0.linear2"].rank == 6
    assert main(["merge", str(first), "--weight", "1", "--weight", "2", "--output", str(joined), "--force"]) == 2
