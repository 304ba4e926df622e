"""n ranks with accumulation k make the run of one rank with accumulation n times k: losses, LoRA and bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ranks.launcher import Launcher
from tests.tiny import losses, write_dataset, write_job
from toolkit.weights.tensor_files import read_tensors

STEPS = 6
# What each draws is drawn anew in each batch; five pictures and batches of two: every third batch is short.
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "model": {"quantize": True, "qtype": "qfloat8"},
        "network": {"type": "lora", "linear": 2, "dropout": 0.3},
        "train": {
            "optimizer": "adamw8bit",
            "gradient_checkpointing": True,
            "ema_config": {"use_ema": True, "ema_decay": 0.9},
        },
    },
    "full fine-tune": {"network": None, "train": {"full_finetune": True, "lr_scheduler": "cosine"}},
}


def write(folder: Path, base: Path, *, accumulation: int = 1, **sections: Any) -> Path:
    """A job of six steps."""
    folder.mkdir(parents=True, exist_ok=True)
    train = {"steps": STEPS, "gradient_accumulation": accumulation, "gradient_checkpointing": False}
    images = write_dataset(folder / "images", count=5)
    merged = {
        "datasets": [{"folder_path": str(images), "resolution": 32, "caption_dropout_rate": 0.3}],
        **sections,
        "train": train | sections.get("train", {}),
        "model": {"name_or_path": str(base)} | sections.get("model", {}),
    }
    return write_job(folder, **merged)


def state(folder: Path) -> dict[str, Tensor]:
    """All tensors that a run has written."""
    files = sorted((folder / "output" / "job").rglob("*.safetensors"))
    return {f"{path.name} {name}": tensor for path in files for name, tensor in read_tensors(path).items()}


def is_same(folder: Path, other: Path) -> bool:
    """Whether two runs have logged the same losses and written the same tensors, bit for bit."""
    mine, theirs = state(folder), state(other)
    assert mine and mine.keys() == theirs.keys()
    output = Path("output", "job")
    return losses(folder / output) == losses(other / output) and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_with_twice_the_accumulation_bit_for_bit(
    name: str, launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    for folder, world in (("one", 1), ("two", 2)):
        job = write(tmp_path / folder, smallest_model, accumulation=2 // world, **CASES[name])
        end = launcher.run(tmp_path / folder, world, str(job))
        assert set(end.codes) == {0}, end.text
    assert is_same(tmp_path / "one", tmp_path / "two")
