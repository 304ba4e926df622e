"""Runs whose weights are spread over two and four ranks, against the same runs of one process. Takes half a minute."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.ranks.launcher import Launcher
from tests.tiers import IS_TORTURE
from tests.tiny import losses, write_job
from toolkit.lora.commands.ema import ema
from toolkit.optimizers.stored.state import DOCUMENT
from toolkit.output.bundles import MANIFEST, BrokenBundle, newest_bundle, read_bundle
from toolkit.parallel.weight_layout import WholeWeights
from toolkit.train.tasks.checkpoint import read_optimizer, read_part

STEPS = 6
FULL = {"full_finetune": True, "lr": 1e-3}
AVERAGE = {"ema_config": {"use_ema": True, "power_ema": True}}


@dataclass(frozen=True)
class Kind:
    """A run of two ranks, and how far losses and weights may be from those of one process."""

    train: dict[str, Any]
    steps: int = 2
    batches: int = 2
    relative: float = 1e-6
    absolute: float = 1e-6


KINDS = {
    "full": Kind({**FULL, **AVERAGE, "validation_config": {"max_images": 1}}, STEPS, batches=4),
    "fused": Kind({**FULL, "fused_backward_pass": True, "max_grad_norm": 0, "gradient_checkpointing": True}),
    # In 8 bits a difference in the last digit can move a moment, and in 16 bits a weight, by a whole step.
    "8 bit": Kind({**FULL, "optimizer": "adamw8bit"}, relative=1e-3, absolute=1e-3),
    "stochastic": Kind(
        {**FULL, "full_finetune_weights": "bf16_stochastic", "dtype": "bf16"}, relative=2e-3, absolute=8e-3
    ),
}

if not IS_TORTURE:
    del KINDS["stochastic"]  # tests/toolkit/optimizers/test_rounding.py has what is special in it


def _write(folder: Path, base: Path, kind: Kind, *, world: int, save_every: int = 0) -> Path:
    folder.mkdir()
    sections: dict[str, Any] = {
        "train": {
            "batch_size": 1,
            "steps": kind.steps,
            "gradient_accumulation": kind.batches // world,
            **kind.train,
        },
        "model": {"name_or_path": str(base)},
        "network": None,
        "save": {"save_every": save_every},
    }
    if world > 1:
        sections["train"]["sharding"] = "full"
    else:
        sections["train"].pop("fused_backward_pass", None)  # which cannot accumulate
    return write_job(folder, **sections)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, smallest_model: Path) -> Path:
    """A folder with every kind of run, `alone` and `shared`, and with one that goes on with two, four and one ranks."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name: str, world: int, job: Path, *arguments: str) -> None:
        end = launcher.run(folder / "printed" / name, world, str(job), *arguments)
        assert set(end.codes) == {0}, end.text

    for name, kind in KINDS.items():
        for how, world in (("alone", 1), ("shared", 2)):
            place = folder / f"{name} {how}"
            run(place.name, world, _write(place, smallest_model, kind, world=world))
    resumed = _write(folder / "resumed", smallest_model, KINDS["full"], world=2, save_every=2)
    for world, steps in ((2, 2), (4, 4), (1, STEPS)):
        more = (f"train.steps={steps}", f"train.gradient_accumulation={4 // world}")
        run(f"resumed {world}", world, resumed, *(word for one in more for word in ("--set", one)))
    return folder


def _output(runs: Path, name: str) -> Path:
    return runs / name / "output" / "job"


def _weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / "job.safetensors")


def _are_close(some: dict[str, Tensor], others: dict[str, Tensor], absolute: float) -> bool:
    assert list(some) == list(others)
    return all(torch.allclose(some[name].float(), others[name].float(), rtol=0, atol=absolute) for name in some)


@pytest.mark.parametrize("name", KINDS)
def test_ranks_that_share_the_weights_learn_what_one_process_learns(name: str, runs: Path) -> None:
    kind, alone, shared = KINDS[name], _output(runs, f"{name} alone"), _output(runs, f"{name} shared")
    assert len(losses(shared)) == kind.steps
    assert losses(shared) == pytest.approx(losses(alone), rel=kind.relative)
    assert _are_close(_weights(shared), _weights(alone), kind.absolute)


def test_two_four_and_one_ranks_go_on_with_each_others_checkpoints(runs: Path) -> None:
    straight, resumed = _output(runs, "full alone"), _output(runs, "resumed")
    assert losses(resumed) == pytest.approx(losses(straight), rel=1e-6)
    assert _are_close(_weights(resumed), _weights(straight), 1e-6)


def test_averages_are_made_from_snapshots_of_any_number_of_ranks(runs: Path, tmp_path: Path) -> None:
    """Those of step 4 are in four pieces."""
    ema(_output(runs, "resumed"), tmp_path / "pieces.safetensors", width=0.1, step=4)
    for name, folder in (("straight", "full alone"), ("resumed", "resumed")):
        ema(_output(runs, folder), tmp_path / f"{name}.safetensors", width=0.05)
    straight, resumed, pieces = (
        load_file(tmp_path / f"{name}.safetensors") for name in ("straight", "resumed", "pieces")
    )
    assert _are_close(resumed, straight, 1e-6)
    assert straight.keys() == pieces.keys()
    assert 0 < max(float((straight[name] - pieces[name]).abs().max()) for name in straight) < 0.1


def test_a_sharded_checkpoint_is_whole_in_pieces(runs: Path) -> None:
    """Two ranks hold the same state as one, each its rows, and the manifest names every file."""
    shared, alone = (newest_bundle(_output(runs, f"full {how}"))[0] for how in ("shared", "alone"))
    assert shared is not None
    assert alone is not None
    assert shared.shards == 2
    parts = {path.stem for path in alone.files if path.suffix == ".safetensors"}
    assert {path.name for path in shared.files if path.suffix == ".safetensors"} == {
        f"{part}.{shard}-of-2.safetensors" for part in parts for shard in (1, 2)
    }
    assert {"weights", "optimizer"} <= parts
    halves = [load_file(path) for path in shared.part_files("weights")]
    whole = read_part(alone, "weights")
    sizes = [sum(tensor.nbytes for tensor in half.values()) for half in halves]
    assert max(sizes) < 0.51 * sum(tensor.nbytes for tensor in whole.values())
    assert _are_close(read_part(shared, "weights"), whole, 1e-6)
    layout = WholeWeights()
    pieces = [layout.piece(tensor) for tensor in whole.values()]
    ours, theirs = (read_optimizer(bundle, layout, pieces) for bundle in (shared, alone))
    names = theirs.keys() - {DOCUMENT}
    assert _are_close({name: ours[name] for name in names}, {name: theirs[name] for name in names}, 1e-6)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _flip])
@pytest.mark.parametrize("shard", [1, 4])
def test_a_checkpoint_with_a_damaged_shard_is_passed_over(
    damage: Callable[[Path], None], shard: int, runs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "job"
    shutil.copytree(_output(runs, "resumed"), output)
    steps = sorted(int(folder.name) for folder in (output / "state").iterdir() if (folder / MANIFEST).exists())
    assert steps[-2:] == [4, 6], "the last is of one process, the one before of four ranks"
    shutil.rmtree(output / "state" / "000000006")
    damage(output / "state" / "000000004" / f"weights.{shard}-of-4.safetensors")
    bundle, passed_over = newest_bundle(output)
    assert [broken.step for broken in passed_over] == [4]
    assert bundle is None


@pytest.mark.parametrize("shards", [0, -1, "2", True, None, [2], 1 << 40])
def test_a_manifest_with_a_senseless_number_of_shards_is_damaged(shards: Any, tmp_path: Path) -> None:
    folder = tmp_path / "job" / "state" / "000000001"
    folder.mkdir(parents=True)
    content = {"step": 1, "files": {}, "shards": shards}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(BrokenBundle, match="damaged"):
        read_bundle(folder)
