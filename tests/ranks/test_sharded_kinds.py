"""Every kind of network, and adapters, on a model whose weights are spread over the ranks, against one process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parallel_jobs import NETWORKS, Make, adapters, pixels
from tests.ranks.launcher import Launcher
from tests.ranks.trouble import Held, Trouble, told
from tests.tiny import losses, write_job
from toolkit.weights.tensor_files import read_tensors

STEPS = 3
JOBS: Mapping[str, Make] = {
    "networks": lambda folder: {
        "network": {**NETWORKS, "dropout": 0.2, "network_kwargs": {"module_dropout": 0.3}},
        "model": {"quantize": True, "qtype": "uint4"},
        "train": {"ema_config": {"use_ema": True, "ema_decay": 0.9}, "disable_sampling": False},
        "sample": {"prompts": ["a red circle"], "sample_every": 0, "format": "png"},
    },
    "merged": lambda folder: {
        "network": {"type": "lora", "linear": 4, "patterns": [{"contains": "img_attn", "type": "dora"}]},
        "model": {"quantize": True, "qtype": "qfloat8"},
        "train": {"steps": 2, "merge_network_on_save": True, "merge_network_on_save_strength": 0.5},
    },
    "adapters": lambda folder: {**adapters(folder), "train": {"ema_config": {"use_ema": True, "ema_decay": 0.9}}},
    "subpixel": lambda folder: {
        **pixels(folder),
        "adapter": [{"type": "subpixel"}, {"type": "mean_flow"}],
        "train": {"objective": "jvp", "objective_params": {"velocity": "data"}},
    },
}
# Ranks, and the step that they train to. `subpixel` is sharded like a LoRA, and has an objective that goes forwards.
PARTS = {
    "networks": ((2, 1), (1, 2), (2, STEPS)),
    "merged": ((2, 2),),
    "adapters": ((2, 2), (1, STEPS)),
    "subpixel": ((2, STEPS),),
}


def _write(folder: Path, base: Path, name: str, **train: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    job = JOBS[name](folder)
    sections: dict[str, Any] = {
        **job,
        "train": {"batch_size": 1, "steps": STEPS, "gradient_checkpointing": True, **job.get("train", {}), **train},
        "model": {"name_or_path": str(base), "quantize_te": False, "quantize_cache": False, **job.get("model", {})},
        "save": {"save_every": 2},
    }
    return write_job(folder, **sections)


@pytest.mark.parametrize("name", JOBS)
def test_two_one_and_two_ranks_make_the_run_of_one_process(
    name: str, launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    alone = _write(tmp_path / "alone", smallest_model, name, gradient_accumulation=2)
    assert launcher.run(tmp_path / "printed", 1, str(alone)).codes == [0]
    shared = _write(tmp_path / "shared", smallest_model, name, sharding="full")
    for world, steps in PARTS[name]:
        more = [f"train.steps={steps}", f"train.gradient_accumulation={2 // world}"]
        words = [word for one in more for word in ("--set", one)]
        end = launcher.run(tmp_path / "printed", world, str(shared), *words, troubles=[Trouble(-1, "step", "tell")])
        assert set(end.codes) == {0}, end.text
        if world > 1:
            _must_hold_parts_of_the_same(*map(told, end.printed))
    ours, theirs = (tmp_path / folder / "output" / "job" for folder in ("shared", "alone"))
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-6)
    for path in (path for path in theirs.glob("*.safetensors") if "_0000" not in path.name):
        mine, its = read_tensors(ours / path.name), read_tensors(path)
        assert list(mine) == list(its)
        assert all(torch.allclose(mine[key], its[key], rtol=0, atol=1e-6) for key in its), path.name
        _must_have_equal_headers(ours / path.name, path)
    pictures = [len(list((output / "samples").glob("*_0.png"))) for output in (ours, theirs)]
    assert pictures == ([4, 2] if name == "networks" else [0, 0])  # at the start, and at the end of each part


def _must_hold_parts_of_the_same(one: list[Held], other: list[Held]) -> None:
    """After every step, two ranks know the same weights, bit for bit, and neither has more than its half of them."""
    assert [held.checksum for held in one] == [held.checksum for held in other]
    assert len(one) > 0
    for held in (*one, *other):
        assert held.num_bytes < 0.52 * held.whole_bytes  # an odd number of rows is not halved


def _must_have_equal_headers(ours: Path, theirs: Path) -> None:
    """The file for users is the one that a single process writes, but for the settings that it names."""
    headers = [
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) for data in map(Path.read_bytes, (ours, theirs))
    ]
    for header in headers:
        header["__metadata__"].pop("modelspec.hash_sha256", None)  # of numbers that may differ in the last digit
    settings = [json.loads(header["__metadata__"].pop("training_settings")) for header in headers]
    assert headers[0] == headers[1]
    assert settings[0]["sharding"] == "full"
