"""Runs in which ranks share each sequence, against the same runs of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ranks.launcher import Launcher
from tests.reliability.smallest_model import write_smallest_model
from tests.tiny import losses, write_job
from tests.tiny_flux import make_tiny_flux
from toolkit.weights.tensor_files import read_tensors

STEPS = 2
DROPOUTS = {
    "type": "lora",
    "linear": 4,
    "dropout": 0.3,
    "network_kwargs": {"rank_dropout": 0.3, "module_dropout": 0.3},
}
# name -> ranks, processes per sequence, other settings
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "two groups of two, differentiated forwards": (
        4,
        2,
        {
            "train": {"gradient_checkpointing": True, "objective": "jvp", "objective_params": {"velocity": "data"}},
            "adapter": {"type": "mean_flow"},
            "network": DROPOUTS,
        },
    ),
    "with sharded weights and mean_flow": (
        2,
        2,
        {
            "train": {"sharding": "full", "objective": "mean_flow"},
            "model": {"quantize": True, "qtype": "qfloat8"},
            "adapter": {"type": "mean_flow"},
            "network": {**DROPOUTS, "patterns": [{"contains": "img_mlp", "type": "lokr"}]},
        },
    ),
    "FLUX.1": (2, 2, {"train": {"gradient_checkpointing": True}}),
}


def _write(folder: Path, sections: dict[str, Any], **train: Any) -> Path:
    folder.mkdir(parents=True)
    fixed = {
        "train": {"steps": STEPS, "batch_size": 1, "disable_sampling": False} | sections.get("train", {}) | train,
        "model": {"quantize_te": False, "quantize_cache": False} | sections.get("model", {}),
        "sample": {"prompts": ["a red circle"], "sample_every": 0, "format": "png", "sample_steps": 1},
    }
    return write_job(folder, **{**sections, **fixed})


@pytest.mark.parametrize("name", CASES)
def test_ranks_that_share_a_sequence_learn_what_one_process_learns(
    name: str, launcher: Launcher, tmp_path: Path
) -> None:
    world, size, sections = CASES[name]
    if name == "FLUX.1":
        model = make_tiny_flux(tmp_path / "flux")
    else:
        model = {"name_or_path": str(write_smallest_model(tmp_path / "model", num_heads=size))}
    sections = {**sections, "model": sections.get("model", {}) | model}
    one = _write(tmp_path / "one", sections, gradient_accumulation=world // size)
    several = _write(tmp_path / "several", sections, context_parallel=size)
    for job, count in ((one, 1), (several, world)):
        end = launcher.run(job.parent / "printed", count, str(job))
        assert set(end.codes) == {0}, end.text
    alone, shared = (tmp_path / folder / "output" / "job" for folder in ("one", "several"))
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-5)
    for path in alone.glob("job*.safetensors"):
        ours, theirs = read_tensors(shared / path.name), read_tensors(path)
        apart = [(ours[key].float() - theirs[key].float()).abs() for key in theirs]
        # where a gradient is next to nothing, Adam makes a good part of a step of 1e-3 of the last digits
        assert max(float(part.max()) for part in apart) < 5e-4
        assert max(float(part.mean()) for part in apart) < 1e-6
    assert len(list((shared / "samples").glob("*.png"))) == 2
