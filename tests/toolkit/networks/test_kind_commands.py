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


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_takes_the_names_of_another_program_and_starts_a_training_with_them(kind: str, tmp_path: Path) -> None:
    network, path = _file(kind, tmp_path)
    is_cut = kind not in ("dora", "lokr of factor 4", "lokr of rank 2") and network.config.type != "lora"
    for file_format in ("kohya", *(["lycoris"] if is_cut else [])):
        other, back = tmp_path / f"{file_format}.safetensors", tmp_path / "back.safetensors"
        assert main(["convert", str(path), "--format", file_format, "--output", str(other)]) == 0
        assert main(["convert", str(other), "--format", "bfl", "--output", str(back), "--force"]) == 0
        first, again = read_tensors(path), read_tensors(back)
        assert first.keys() == again.keys()
        assert all(torch.equal(first[key], again[key]) for key in first)
        fresh = Network(tiny_model("transformer"), network.config, Draws(8))
        fresh.apply()
        fresh.load_state_dict(dict(read_tensors(other)), source="file")
        for one, two in zip(network.parameters(), fresh.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_what_a_format_cannot_have_is_said(tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "out.safetensors"
    for kind, file_format, message in (
        ("dora", "lycoris", "the column norms of a DoRA are those of the whole weight"),
        ("oft", "diffusers", "the library reads only LoRA there"),
        ("lora", "lycoris", "LyCORIS files have no special names for LoRAs"),
    ):
        _, path = _file(kind, tmp_path)
        assert main(["convert", str(path), "--format", file_format, "--output", str(output)]) == 2
        assert message in capsys.readouterr().err
    _, path = _file("lokr", tmp_path)
    assert main(["convert", str(path), "--format", "diffusers", "--output", str(output)]) == 0
    assert "LoKrs written as LoRAs" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["lokr", "loha", "fullrank"])
def test_files_of_several_kinds_are_summed_into_one_lora(kind: str, tmp_path: Path, base: Path, capsys: Any) -> None:
    (tmp_path / "two").mkdir()
    (one, first), (two, second) = _file("lora", tmp_path), _file(kind, tmp_path / "two")
    joined = tmp_path / "joined.safetensors"
    command = ["merge", str(first), str(second), "--weight", "0.5", "--weight", "2", "--output", str(joined)]
    assert main(command) == 2
    assert "give the required quality with --rank R or --energy SHARE" in capsys.readouterr().err
    assert main([*command, "--energy", "1"]) == 0
    updates, changes = read_lora_file(joined).updates, (_changes(one, base), _changes(two, base))
    for name, change in changes[0].items():
        wanted = 0.5 * change + 2 * changes[1][name]
        torch.testing.assert_close(updates[name].delta(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_a_resized_file_of_another_kind_says_what_it_lost(tmp_path: Path, capsys: Any) -> None:
    _, path = _file("loha", tmp_path)
    assert main(["resize", str(path), "--rank", "1", "--output", str(tmp_path / "lora.safetensors")]) == 0
    lost = float(capsys.readouterr().out.split(" % of the change was lost")[0].split()[-1])
    assert 20 < lost < 100


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
