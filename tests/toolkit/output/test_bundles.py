"""What retention, damage and users do to bundles: the last valid one is always there, foreign files are untouched."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.toolkit.faults import CODES, FaultyDisk, Killed
from toolkit import files
from toolkit.files import sweep_temporary, write_bytes
from toolkit.output.bundles import Bundle, find_bundles, newest_bundle, read_bundle, set_aside, step_folders
from toolkit.output.retention import prune
from toolkit.train.tasks.checkpoint import read_part, write_bundle

# RETENTION_EXAMPLES=5000 for the long form
EXAMPLES = int(os.environ.get("RETENTION_EXAMPLES", "25"))
NAMES = ("lora", "a [b] job", "x[0-9]{2}", "ümlaut 📷")


def save(folder: Path, name: str, step: int, *, keep: int = 0, keep_states: int = 0) -> list[Path]:
    """A checkpoint as a run writes it."""
    output = folder / f"{name}_{step:09d}.safetensors"
    write_bytes(output, f"weights of {step}".encode())
    parts = {"weights": {"w": torch.full((4,), float(step))}, "optimizer": {"m": torch.zeros(3)}}
    write_bundle(folder, step=step, parts=parts, output_files=(output,), facts={"job": name, "note": "ü"})
    return prune(folder, keep, newest=step, keep_states=keep_states)


class Retention(RuleBasedStateMachine):
    """One output folder through saves, failures, deaths, restarts and the hands of its user."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.disk = files.disk
        files.disk = FaultyDisk()
        self.step = 0
        self.valid: set[int] = set()  # steps that can be gone on from
        self.foreign: dict[Path, bytes] = {}

    @initialize(name=st.sampled_from(NAMES), keep=st.integers(0, 3), keep_states=st.integers(0, 3))
    def begin(self, name: str, keep: int, keep_states: int) -> None:
        self.name, self.keep, self.keep_states = name, keep, keep_states

    def _resumable(self) -> set[int]:
        return {bundle.step for bundle in find_bundles(self.folder)[0] if bundle.has_state}

    def _save(self, step: int) -> None:
        save(self.folder, self.name, step, keep=self.keep, keep_states=self.keep_states)

    @rule(steps=st.integers(1, 5))
    def save(self, steps: int) -> None:
        self.step += steps
        self._save(self.step)
        self.valid = self._resumable()
        assert self.step in self.valid
        assert not self.keep_states or len(self.valid) <= self.keep_states
        bundles, _ = find_bundles(self.folder)
        assert not self.keep or len(bundles) <= self.keep
        for bundle in bundles:
            assert bundle.has_state or [path.name for path in bundle.folder.iterdir()] == ["manifest.json"]

    @rule(steps=st.integers(1, 5), nth=st.integers(1, 45), code=st.sampled_from([*CODES, "kill"]))
    def save_on_a_bad_disk(self, steps: int, nth: int, code: int | str) -> None:
        files.disk = FaultyDisk(nth, code)
        try:
            self._save(self.step + steps)
        except (OSError, Killed):
            pass
        finally:
            files.disk = FaultyDisk()
        now = self._resumable()
        assert self.step + steps in now or now == self.valid
        self.valid = now
        self.restart()

    @rule()
    def restart(self) -> None:
        for folder in (self.folder, *step_folders(self.folder)):
            sweep_temporary(folder)
        bundle, _ = newest_bundle(self.folder)
        self.step = bundle.step if bundle else 0
        # The names of the steps that are made again are the run's own.
        later = {self.folder / f"{self.name}_{step:09d}.safetensors" for step in range(self.step + 1, 1000)}
        self.foreign = {path: content for path, content in self.foreign.items() if path not in later}

    @rule(name=st.sampled_from(["lora_v2_000000001.safetensors", "lora_best.safetensors", "state/notes.txt", "x.txt"]))
    def the_user_adds_a_file(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        self.foreign[path] = b"mine"

    @precondition(lambda self: self.valid)
    @rule(data=st.data())
    def the_user_puts_a_file_of_his_own_in_place_of_old_weights(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.valid)))
        path = self.folder / f"{self.name}_{step:09d}.safetensors"
        path.write_bytes(b"merged with another LoRA by hand")
        if step < self.step:  # a run writes only steps that are still to come
            self.foreign[path] = path.read_bytes()

    @precondition(lambda self: len(self.valid) > 1)
    @rule(data=st.data())
    def the_user_deletes_a_bundle(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.valid)))
        shutil.rmtree(self.folder / "state" / f"{step:09d}")
        self.valid.remove(step)

    @precondition(lambda self: len(self.valid) > 1)
    @rule(data=st.data())
    def a_bundle_rots(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.valid)))
        path = self.folder / "state" / f"{step:09d}" / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        self.valid.remove(step)

    @rule()
    def the_clock_jumps(self) -> None:
        for path in self.folder.rglob("*"):
            moment = random.Random(str(path)).randrange(10**9)
            os.utime(path, (moment, moment))

    @invariant()
    def the_last_valid_bundle_is_there(self) -> None:
        bundle, _ = newest_bundle(self.folder)
        assert (bundle.step if bundle else None) == max(self.valid, default=None)

    @invariant()
    def foreign_files_are_untouched(self) -> None:
        assert {path: path.read_bytes() for path in self.foreign} == self.foreign

    def teardown(self) -> None:
        files.disk = self.disk
        shutil.rmtree(self.folder)


TestRetention = Retention.TestCase
TestRetention.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    derandomize="RETENTION_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


def _two(folder: Path) -> Bundle:
    for step in (1, 2):
        save(folder, "job", step)
    return read_bundle(folder / "state" / "000000002")


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "manifest.json"])
def test_every_change_to_a_bundle_is_noticed_and_the_one_before_is_used(name: str, tmp_path: Path) -> None:
    files.disk, disk = FaultyDisk(), files.disk
    try:
        path = _two(tmp_path).folder / name
    finally:
        files.disk = disk
    whole, chance = path.read_bytes(), random.Random(0)
    damaged = [whole[:length] for length in chance.sample(range(len(whole)), 64)]
    for place in chance.sample(range(len(whole) * 8), 256):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    damaged += [bytes(len(whole)), whole + b"\n", b"[" * 100_000, b'{"files": null}', b"null", b"\xff\xfe"]
    for content in damaged:
        path.write_bytes(content)
        bundle, passed_over = newest_bundle(tmp_path)
        assert bundle is not None
        assert bundle.step == 1, content
        assert [broken.step for broken in passed_over] == [2]
        assert "\n" not in str(passed_over[0])
    path.write_bytes(whole)
    assert newest_bundle(tmp_path)[0] is not None


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "loop/weights.safetensors", "x" * 5000, "../" * 99, "/etc/passwd"])
def test_a_manifest_with_an_impossible_file_name_is_passed_over(name: str, tmp_path: Path) -> None:
    folder = _two(tmp_path).folder
    (folder / "loop").symlink_to("loop")
    content = json.loads((folder / "manifest.json").read_text())
    del content["format"], content["sha256"]  # as before manifests had a hash: nothing else gives it away
    content["files"][f"state/{folder.name}/{name}"] = {"bytes": 1, "sha256": "0"}
    (folder / "manifest.json").write_text(json.dumps(content))
    bundle, passed_over = newest_bundle(tmp_path)
    assert bundle is not None
    assert (bundle.step, [broken.step for broken in passed_over]) == (1, [2])


def test_files_of_two_bundles_that_changed_places_are_noticed(tmp_path: Path) -> None:
    one, two = (_two(tmp_path).folder.parent / f"{step:09d}" / "weights.safetensors" for step in (1, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert newest_bundle(tmp_path)[0] is None


def test_a_bundle_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    folder = _two(tmp_path).folder
    folder.rename(folder.with_name("000000009"))
    bundle, (broken,) = newest_bundle(tmp_path)
    assert bundle is not None
    assert bundle.step == 1
    assert "belongs to another step" in str(broken)


def test_a_bundle_of_the_time_before_manifests_had_a_hash_is_still_resumed(tmp_path: Path) -> None:
    manifest = _two(tmp_path).folder / "manifest.json"
    content = {key: value for key, value in json.loads(manifest.read_text()).items() if key not in ("format", "sha256")}
    manifest.write_text(json.dumps(content))
    bundle, passed_over = newest_bundle(tmp_path)
    assert bundle is not None
    assert (bundle.step, passed_over) == (2, [])


def test_only_the_newest_bundle_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _two(tmp_path)
    hashed: list[Path] = []

    def watched(path: Path) -> str:
        hashed.append(path)
        return files.sha256_file(path)

    monkeypatch.setattr("toolkit.output.bundles.sha256_file", watched)
    newest_bundle(tmp_path)
    assert {path.parent.name for path in hashed} == {"000000002"}
    hashed.clear()
    prune(tmp_path, 1, newest=2)
    assert hashed == []


def test_what_is_set_aside_can_be_resumed_from_there(tmp_path: Path) -> None:
    two = _two(tmp_path)
    (tmp_path / "job.safetensors").write_bytes(b"final")
    place = set_aside(tmp_path, [two], others=[tmp_path / "job.safetensors", tmp_path / "not there"])
    assert [bundle.step for bundle in find_bundles(tmp_path)[0]] == [1]
    (moved,) = find_bundles(place)[0]
    assert read_part(moved, "weights")["w"].tolist() == [2.0] * 4
    assert sorted(path.name for path in place.iterdir()) == [
        "job.safetensors", "job_000000002.safetensors", "state",
    ]  # fmt: skip
