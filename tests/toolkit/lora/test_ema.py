"""python -m toolkit.lora ema"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import run_job, saved_state, tiny_model, write_job
from toolkit.config import NetworkConfig
from toolkit.lora.__main__ import main
from toolkit.networks.network import Network
from toolkit.output.bundles import find_bundles
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_metadata, read_tensors

KINDS = {"type": "lora", "linear": 2, "patterns": [{"contains": "to_out", "type": "dora"}]}
FULL = {"train": {"full_finetune": True}, "model": {"only_if_contains": ["single_transformer_blocks.0"]}}


def _run(folder: Path, **sections: Any) -> Path:
    train = {"steps": 6, "ema_config": {"power_ema": True}, "batch_size": 1} | sections.pop("train", {})
    save = {"save_every": 2, "max_states_to_keep": 1, "max_step_saves_to_keep": 0, "dtype": "fp32"}
    path = write_job(folder, train=train, save=save, **sections)
    run_job(path)
    return folder / "output" / "job"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 2, 4 and 6, only the last of which can be resumed."""
    return _run(tmp_path_factory.mktemp("averaged"), network=KINDS)


def test_snapshots_outlive_the_state_of_their_checkpoint(run: Path) -> None:
    bundles, broken = find_bundles(run)
    assert broken == []
    names = [sorted(path.name for path in bundle.snapshot_files) for bundle in bundles]
    assert names == [["snapshot_0050.safetensors", "snapshot_0100.safetensors"]] * 3
    assert [bundle.has_state for bundle in bundles] == [False, False, True]
    assert not (run / "state" / "000000002" / "optimizer.safetensors").exists()


@pytest.mark.parametrize("step", [4, None])
def test_a_width_that_is_stored_is_written_as_it_is(run: Path, step: int | None, tmp_path: Path) -> None:
    out = tmp_path / "average.safetensors"
    assert main(["ema", str(run), "--width", "0.1", "-o", str(out), *(["--step", str(step)] if step else [])]) == 0
    stored = read_tensors(run / "state" / f"{step or 6:09d}" / "snapshot_0100.safetensors")
    network = Network(tiny_model("transformer"), NetworkConfig.model_validate(KINDS), Draws(1))
    network.apply()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(stored[name])
    found, wanted = read_tensors(out), network.state_dict(torch.float32)
    assert found.keys() == wanted.keys()
    assert max(float((found[key] - wanted[key]).abs().max()) for key in found) < 1e-6
    assert '"width": 0.1' in read_metadata(out)["average"]


def test_the_whole_transformer_is_written_with_the_weights_that_were_not_trained(tmp_path: Path) -> None:
    folder = _run(tmp_path, network=None, **FULL)
    out = tmp_path / "average.safetensors"
    assert main(["ema", str(folder), "--width", "0.05", "--output", str(out)]) == 0
    model = tiny_model("transformer")
    stored = read_tensors(folder / "state" / "000000006" / "snapshot_0050.safetensors")
    with torch.no_grad():
        for name, value in stored.items():
            model.transformer.get_parameter(name).copy_(value)
    found, wanted = read_tensors(out), saved_state(model)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[key], wanted[key], atol=1e-6) for key in found)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--width", "0.3"], "must be between 0.01 and 0.25"),
        (["--width", "0.1", "--step", "5"], "only of 2, 4, 6"),
    ],
)
def test_what_cannot_be_made_is_refused(
    run: Path, arguments: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "average.safetensors"
    assert main(["ema", str(run), *arguments, "-o", str(out)]) == 2
    assert what in capsys.readouterr().err
    assert not out.exists()


def test_too_few_snapshots_for_a_width_are_refused_and_enough_are_not(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "job")
    for step in (2, 4):
        shutil.rmtree(folder / "state" / f"{step:09d}")
    for width, code in (("0.25", 2), ("0.12", 0)):
        assert main(["ema", str(folder), "--width", width, "-o", str(tmp_path / "out.safetensors")]) == code
    assert "of steps 6: it would differ by" in (said := capsys.readouterr().err)
    assert "Choose a width nearer to 0.05 and 0.1" in said


def test_a_folder_without_snapshots_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        assert main(["ema", str(folder), "--width", "0.1", "-o", str(tmp_path / "out.safetensors")]) == 2
    assert "power_ema: true" in capsys.readouterr().err
