"""jobs.block_study through its command: which blocks of a trained network matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_model, write_job
from toolkit.config import NetworkConfig
from toolkit.lora.__main__ import main
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import write_tensors

NETWORK = {
    "type": "lokr",
    "network_kwargs": {"only_if_contains": ["single_blocks", "txt_in"]},
    "transformer_only": False,
}


def _file(folder: Path) -> Path:
    """A network that changes only the second single block, and next to nothing outside blocks."""
    network = Network(tiny_model("transformer"), NetworkConfig.model_validate(NETWORK), Draws(1))
    network.apply()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.add_(0.05 if "single_blocks.1" in name else 1e-6 if "txt_in" in name else 0.0)
    path = folder / "network.safetensors"
    write_tensors(path, network.state_dict(torch.float32), {"format": "pt"})
    return path


def test_the_block_that_changes_the_prediction_is_found_and_a_second_study_is_equal(
    tmp_path: Path, capsys: Any
) -> None:
    job, file = write_job(tmp_path, network=NETWORK), _file(tmp_path)
    studies = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.json"
        assert main(["blocks", str(job), str(file), "--images", "2", "--levels", "1", "--json", str(path)]) == 0
        studies.append(json.loads(path.read_text()))
    said = capsys.readouterr().out
    assert studies[0] == studies[1]
    changes = {block["name"]: block["change"] for block in studies[0]["blocks"]}
    assert list(changes)[-1] == "outside blocks" or "outside blocks" in changes
    assert changes["single_blocks.0"] == 0
    assert 0 < abs(changes["outside blocks"]) < 1e-3 * abs(changes["single_blocks.1"])
    whole = studies[0]["without_any"] - studies[0]["with_all"]
    assert changes["single_blocks.1"] == pytest.approx(whole, rel=1e-2)
    assert len(studies[0]["blocks"][0]["by_level"]) == len(studies[0]["sigmas"]) == 1
    assert "passes through the model, about" in said
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"network": None, "train": {"full_finetune": True}}, "the job needs a `network` and no `adapter`"),
        ({"network": {"type": "lora"}}, "network.safetensors: "),
        ({"datasets": [{"folder_path": "nowhere", "resolution": 32}]}, "nowhere"),
    ],
)
def test_a_job_or_file_that_cannot_be_compared_is_refused(
    sections: dict[str, Any], message: str, tmp_path: Path, capsys: Any
) -> None:
    job = write_job(tmp_path, **sections)
    assert main(["blocks", str(job), str(_file(tmp_path))]) == 2
    assert message in capsys.readouterr().err


def test_a_path_that_is_no_job_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert main(["blocks", str(tmp_path), str(_file(tmp_path))]) == 2
    assert "neither a job file nor the output folder of a run" in capsys.readouterr().err
