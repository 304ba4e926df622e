"""toolkit.train.tasks.checkpoint"""

import json
from pathlib import Path

import pytest
import torch

from toolkit.output.bundles import Bundle, find_bundles, newest_bundle
from toolkit.output.retention import prune
from toolkit.train.tasks.checkpoint import read_part, write_bundle
from toolkit.weights.tensor_files import write_tensors


def _write(folder: Path, step: int) -> Bundle:
    output = folder / f"job_{step:09d}.safetensors"
    write_tensors(output, {"lora": torch.full((4,), float(step))})
    parts = {"weights": {"w": torch.full((4,), float(step))}, "ema": {}}
    bundle = write_bundle(folder, step=step, parts=parts, output_files=(output,), facts={"job": "job"})
    assert bundle is not None
    return bundle


def test_a_bundle_gives_back_what_was_written(tmp_path: Path) -> None:
    _write(tmp_path, 10)
    bundles, passed_over = find_bundles(tmp_path)
    assert [bundle.step for bundle in bundles] == [10]
    assert passed_over == []
    assert read_part(bundles[0], "weights")["w"].tolist() == [10.0] * 4
    assert read_part(bundles[0], "ema") == {}
    assert bundles[0].manifest["job"] == "job"


def test_bundles_come_in_order_of_their_step(tmp_path: Path) -> None:
    for step in (900, 1000, 50):
        _write(tmp_path, step)
    assert [bundle.step for bundle in find_bundles(tmp_path)[0]] == [50, 900, 1000]


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest", "no manifest", "other step"])
def test_a_broken_bundle_is_passed_over_with_its_reason(tmp_path: Path, damage: str) -> None:
    _write(tmp_path, 1)
    broken = _write(tmp_path, 2)
    weights, manifest = broken.folder / "weights.safetensors", broken.folder / "manifest.json"
    content = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(content[:-1])
    elif damage == "flip":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "delete":
        weights.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "step": 3}))
    bundles, passed_over = find_bundles(tmp_path)
    assert [bundle.step for bundle in bundles] == [1]
    assert len(passed_over) == 1
    assert passed_over[0].step == 2
    assert newest_bundle(tmp_path)[0] == bundles[0]


def test_pruning_keeps_the_newest_and_foreign_files(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _write(tmp_path, step)
    mine = tmp_path / "job_my_favourite.safetensors"
    mine.write_bytes(b"not ours to delete")
    deleted = prune(tmp_path, 2, newest=3)
    assert [path.name for path in deleted] == ["job_000000001.safetensors"]
    assert [bundle.step for bundle in find_bundles(tmp_path)[0]] == [2, 3]
    assert mine.exists()
    assert not (tmp_path / "job_000000001.safetensors").exists()


def test_keeping_zero_keeps_everything(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _write(tmp_path, step)
    assert prune(tmp_path, 0, newest=3) == []
    assert len(find_bundles(tmp_path)[0]) == 3


def test_a_manifest_cannot_name_files_outside_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    outside = tmp_path / "precious.txt"
    outside.write_text("keep me")
    for step in (1, 2):
        _write(folder, step)
    manifest = folder / "state" / "000000001" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["files"]["../precious.txt"] = {"bytes": 7, "sha256": ""}
    manifest.write_text(json.dumps(facts))
    prune(folder, 1, newest=2)
    assert outside.exists()
