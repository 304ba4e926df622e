"""Checkpoints on a disk that fails: at every call, in every way, and on one that is really full."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from tests.small_run import SmallRun, small_model, texts
from tests.tiny import losses
from tests.toolkit.faults import CODES, FaultyDisk, Killed
from toolkit import files
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.config import SaveConfig, TrainConfig
from toolkit.errors import UserError
from toolkit.output.bundles import find_bundles, newest_bundle
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.learner import build_learner
from toolkit.train.run_facts import RunFacts
from toolkit.train.tasks.checkpoint import read_part
from toolkit.train.tasks.saver import DiskFull, Saver

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")
FACTS = RunFacts("job", {"training_seed": 0, "train": {"gradient_accumulation": 1, "optimizer": "adamw"}}, {"a": "b"})


class _Weights:
    """Something trained that is written in no time."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(8))

    has_dropout = False
    adapters = AdapterSet()

    def named_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [("weight", self.weight)]

    def rates(self, lr: float) -> dict[str, float]:
        return {}

    def save(self, base: Path, *, dtype: torch.dtype, metadata: object) -> tuple[Path, ...]:
        path = base.with_name(f"{base.name}.safetensors")
        files.write_bytes(path, self.weight.detach().numpy().tobytes())
        return (path,)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        return nullcontext()

    def sampled(self, network: float, adapters: float) -> AbstractContextManager[None]:
        return nullcontext()

    def describe(self) -> str:
        return "8 weights"


def _saver(folder: Path, step: int, keep: int = 2) -> Saver:
    weights = _Weights()
    learner = build_learner(small_model(), weights, TrainConfig(lr=0.1), draws=Draws(0), ranks=OneProcess())
    weights.weight.grad = torch.ones(8)
    for _ in range(step):
        learner.optimizer.step()
    config = SaveConfig(dtype="fp32", max_step_saves_to_keep=keep)
    return Saver(folder, config, learner, facts=FACTS, metadata=lambda _: {})


def _weight(folder: Path) -> tuple[int, list[float]]:
    bundle, _ = newest_bundle(folder)
    assert bundle is not None
    return bundle.step, read_part(bundle, "weights")["weight"].tolist()


def _num_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Calls of the third save, which also prunes the first. Leaves `before` with two checkpoints."""
    monkeypatch.setattr(files, "disk", FaultyDisk())
    for step in (1, 2):
        _saver(folder / "before", step).save_step(step)
    disk = FaultyDisk()
    monkeypatch.setattr(files, "disk", disk)
    _saver(shutil.copytree(folder / "before", folder / "count"), 3).save_step(3)
    return len(disk.log)


@pytest.mark.parametrize("code", [*CODES, "kill"])
def test_a_save_that_fails_at_any_call_leaves_a_valid_checkpoint_and_a_message(
    code: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_calls = _num_calls(tmp_path, monkeypatch)
    assert num_calls > 20
    two = _weight(tmp_path / "before")
    for nth in range(1, num_calls + 1):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(nth))
        monkeypatch.setattr(files, "disk", FaultyDisk(nth, code))
        failure: BaseException | None = None
        try:
            _saver(folder, 3).save_step(3)
        except (UserError, Killed) as error:
            failure = error
        monkeypatch.setattr(files, "disk", FaultyDisk())
        bundles, broken = find_bundles(folder)
        assert len(bundles) >= 1
        assert all(fault.is_unfinished for fault in broken)
        assert bundles[-1].step == 3 or _weight(folder) == two
        if isinstance(failure, UserError):
            assert str(folder) in str(failure)
            assert (code == errno.ENOSPC) == ("disk is full" in str(failure))
            assert list(folder.rglob(".part-*")) == []
        if code == "short":
            assert failure is None
        _saver(folder, 4).save_step(4)
        assert _weight(folder)[0] == 4
        assert len(find_bundles(folder)[0]) == 2


def test_a_prune_that_fails_stops_no_run_and_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_calls = _num_calls(tmp_path, monkeypatch)
    folder = tmp_path / "before"
    monkeypatch.setattr(files, "disk", FaultyDisk(num_calls, errno.EACCES))
    saved = _saver(folder, 3).save_step(3)
    assert saved.complaint is not None
    assert "could not be deleted" in saved.complaint
    monkeypatch.setattr(files, "disk", files.Disk())
    assert _saver(folder, 4).save_step(4).complaint is None
    assert sorted(path.name for path in (folder / "state").iterdir()) == ["000000003", "000000004"]


def test_what_is_on_the_drive_is_synced_before_it_gets_its_name_and_the_manifest_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FaultyDisk()
    monkeypatch.setattr(files, "disk", disk)
    before = os.umask(0o027)
    try:
        _saver(tmp_path, 1).save_step(1)
    finally:
        os.umask(before)
    renames = [place for place, (name, _) in enumerate(disk.log) if name == "rename"]
    for place in renames:
        target = Path(disk.log[place][1])
        (name, synced), (after, parent) = disk.log[place - 1], disk.log[place + 1]
        assert name == "sync"
        assert Path(synced).name.startswith(".part-")
        assert Path(synced).parent == target.parent
        assert (after, parent) == ("sync", str(target.parent))
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert Path(disk.log[renames[-1]][1]).name == "manifest.json"
    assert len(renames) == 5  # the weights for the user, weights, optimizer, dataset, manifest


def test_a_full_disk_stops_the_run_with_what_it_needs_and_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill_after(monkeypatch, tmp_path, step=4)
    with pytest.raises(DiskFull, match=r"step 4 .*disk is full. It needs [\d,]+ bytes, and [\d,]+ are free.*step 2"):
        SmallRun().run(tmp_path)
    assert [bundle.step for bundle in find_bundles(tmp_path)[0]] == [2]


def test_a_run_that_may_continues_on_a_full_disk_and_saves_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallRun().run(tmp_path / "whole")
    _fill_after(monkeypatch, tmp_path / "full", step=4)
    SmallRun(save={"on_disk_full": "continue"}).run(tmp_path / "full")
    assert [bundle.step for bundle in find_bundles(tmp_path / "full")[0]] == [2, 6]
    assert any("Training continues" in text for text in texts(tmp_path / "full"))
    assert losses(tmp_path / "full") == losses(tmp_path / "whole")


def _fill_after(monkeypatch: pytest.MonkeyPatch, folder: Path, *, step: int) -> None:
    """No room for the state of one step."""

    class Full(files.Disk):
        def open(self, path: Path) -> int:
            if path.is_relative_to(folder / "state" / f"{step:09d}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return super().open(path)

    monkeypatch.setattr(files, "disk", Full())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A drive of 300 kB."""
    place = tmp_path / "drive"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small drive can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"no small drive can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_drive_keeps_its_last_checkpoint_and_the_run_continues_when_there_is_room(
    small_disk: Path,
) -> None:
    folder, filler = small_disk / "job", small_disk / "filler"
    _saver(folder, 1).save_step(1)
    one = _weight(folder)
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 1024)
    with pytest.raises(DiskFull, match="bytes, and 0 are free"):
        _saver(folder, 2).save_step(2)
    assert _weight(folder) == one
    filler.unlink()
    _saver(folder, 2).save_step(2)
    assert _weight(folder)[0] == 2
