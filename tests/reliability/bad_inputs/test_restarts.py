"""Starts in a damaged folder: records, paths to resume from, bundles with other content, and their exit codes.

In the folder is a run of four steps with a checkpoint at every second one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import run
from tests.reliability.bad_inputs.battery import expect_exit
from tests.reliability.bad_inputs.test_stored import DAMAGES, LINES
from tests.reliability.bad_inputs.test_tensor_files import Trap
from tests.tiny import write_job
from toolkit.output.bundles import read_bundle
from toolkit.train.tasks.checkpoint import read_part, write_bundle
from toolkit.weights.tensor_files import read_tensors

KIND = "restarts"
CPU_LIMIT_S = 20
STEPS = 6
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a job file, its data and its output; what an uninterrupted run makes is in `right`."""
    folder = tmp_path_factory.mktemp("origin")
    job = write_job(folder, name="cat", train={"steps": STEPS}, save={"save_every": 2})
    assert run.main([str(job)]) == 0
    (folder / "output").rename(folder / "right")
    assert run.main([str(job), "--set", "train.steps=4"]) == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def output(origin: Path) -> Iterator[Path]:
    """The job's output folder, as it was; put back afterwards."""
    place, aside = origin / "output", origin / "aside"
    shutil.copytree(place, aside)
    yield place / "cat"
    shutil.rmtree(place)
    aside.rename(place)


def start(output: Path, *arguments: str) -> int:
    """The exit code of a start of the job."""
    job = output.parent.parent / "cat.yaml"
    return expect_exit(KIND, lambda: run.main([str(job), *arguments]), cpu_limit_s=CPU_LIMIT_S)


def is_right(output: Path) -> bool:
    """The final weights are those of a run that nothing has disturbed."""
    final, right = (read_tensors(path / "cat.safetensors") for path in (output, output.parent.parent / "right" / "cat"))
    return final.keys() == right.keys() and all(torch.equal(final[name], right[name]) for name in right)


TAMPERED = {
    "manifest.json": "cut in half",
    "weights.safetensors": "pickle",
    "optimizer.safetensors": "first bytes turned",
    "dataset.json": "first bytes turned",
}


@pytest.mark.parametrize(("file", "damage"), TAMPERED.items())
def test_a_run_falls_back_past_a_tampered_bundle_and_ends_right(
    file: str, damage: str, output: Path, capsys: Capture
) -> None:
    path = output / "state" / "000000004" / file
    if damage == "pickle":
        torch.save(Trap(output.parent / "canary"), path)
    else:
        DAMAGES[damage](path)
    assert start(output) == 0
    shown = capsys.readouterr()
    assert "000000004: skipped" in shown.out + shown.err
    assert "resuming from step 2" in shown.out + shown.err
    assert is_right(output)
    assert not (output.parent / "canary").exists()


def rewritten(output: Path, *, facts: dict[str, Any] | None = None, **parts: dict[str, torch.Tensor]) -> None:
    """The newest bundle with other content, whole by its manifest."""
    bundle = read_bundle(output / "state" / "000000004")
    tensors = {part: read_part(bundle, part) for part in ("weights", "optimizer")}
    document = json.loads((bundle.folder / "dataset.json").read_text())
    kept = {key: value for key, value in bundle.manifest.items() if key not in ("format", "step", "files", "sha256")}
    write_bundle(
        output,
        step=4,
        parts={**tensors, **parts},
        output_files=(),
        facts={**kept, **(facts or {})},
        documents={"dataset": document},
    )


WHOLE: dict[str, Callable[[Path], None]] = {
    "weights of another shape": lambda output: rewritten(output, weights={"a": torch.ones(3)}),
    "no weights": lambda output: rewritten(output, weights={}),
    "no optimizer": lambda output: rewritten(output, optimizer={}),
    "an optimizer of another shape": lambda output: rewritten(
        output, optimizer={"0.step": torch.tensor(4.0), "0.exp_avg": torch.ones(3), "0.exp_avg_sq": torch.ones(3)}
    ),
    "an optimizer of nonsense": lambda output: rewritten(output, optimizer={"x": torch.ones(3)}),
    "settings that are no settings": lambda output: rewritten(output, facts={"config": [1]}),
    "settings without sections": lambda output: rewritten(output, facts={"config": {}}),
    "settings of other kinds": lambda output: rewritten(output, facts={"config": {"train": 3, "save": [1]}}),
    "no versions": lambda output: rewritten(output, facts={"versions": None}),
    "versions that are a list": lambda output: rewritten(output, facts={"versions": [1]}),
    "the job of somebody else": lambda output: rewritten(output, facts={"job": "dog"}),
    "a job that is a list": lambda output: rewritten(output, facts={"job": ["cat"]}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_bundle_that_is_whole_but_not_of_this_run_is_named(name: str, output: Path, capsys: Capture) -> None:
    WHOLE[name](output)
    code = start(output)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert is_right(output) if code == 0 else str(output) in shown.err
    assert (output / "state" / "000000002" / "manifest.json").is_file()


NO_BUNDLES = [
    "",
    ".",
    "..",
    "nothing",
    "file",
    "empty",
    "empty/state",
    "loop",
    "x" * 300,
    "a\0b",
    "/dev/zero",
    "hollow",
]


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_a_path_without_a_bundle_is_no_place_to_go_on_from(
    arguments: list[str], output: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty" / "state").mkdir(parents=True)
    (tmp_path / "hollow" / "state" / "000000004").mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    places = [*(str(tmp_path / name) for name in NO_BUNDLES), str(tmp_path / "hollow" / "state" / "000000004")]
    for place in places:
        assert start(output, "--resume", place, *arguments) == 2, place
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        assert "--resume" in shown.err or place in shown.err
    assert start(output, "--from-step", "3", *arguments) == 2
    assert "2, 4" in capsys.readouterr().err


def test_a_run_that_cannot_save_ends_with_1_and_says_how_to_continue(output: Path, capsys: Capture) -> None:
    (output / "cat_000000006.safetensors").mkdir()
    (output / "cat.safetensors").unlink()
    (output / "cat.safetensors").mkdir()
    assert start(output) == 1
    shown = capsys.readouterr()
    assert "cannot be written" in shown.err
    assert "continue with:" in shown.err
    assert "Traceback" not in shown.err
    (output / "cat.safetensors").rmdir()
    (output / "cat_000000006.safetensors").rmdir()
    assert start(output) == 0
    assert is_right(output)


# The record

ENTRIES: list[object] = [
    None,
    3,
    [1],
    {},
    {"kind": "start"},
    {"kind": "start", "run": []},
    {"kind": ["start"], "run": "a"},
    {"kind": "start", "run": "b", "time": [], "command": 3, "versions": [1], "seed": {}, "commit": [], "process": 3},
    {"kind": "start", "run": "c", "time": 1e300, "process": {"pid": "x", "started": [], "machine": 3}},
    {"kind": "start", "run": "d", "time": "now", "process": {"pid": -1}},
    {"kind": "start", "run": "e", "time": -1e300, "process": {"pid": 2**70, "started": 1, "machine": ""}},
    {"kind": "start", "run": "f", "command": "\x1b[2J", "versions": {"torch": [1]}, "config_hash": 3},
    {"kind": "resumed", "run": "f", "step": "x", "device": []},
    {"kind": "end", "run": "f", "time": {}, "status": [], "error": [1]},
    {"kind": "end", "run": "e", "error": "\n\n"},
    {"kind": "end", "run": "c", "error": {"a": 1}, "status": None},
    {"kind": "resumed", "run": "nobody", "step": 3},
]


def must_describe(output: Path, capsys: Capture) -> None:
    code = expect_exit("records and --status", lambda: run.main(["--status", str(output)]))
    shown = capsys.readouterr()
    assert code == 0
    assert "step 4: valid" in shown.out
    assert "Traceback" not in shown.err


def test_a_damaged_record_is_still_reported(output: Path, capsys: Capture) -> None:
    record = output / "runs.jsonl"
    whole = record.read_bytes()
    for line in [*LINES.values(), *(json.dumps(entry).encode() + b"\n" for entry in ENTRIES)]:
        for content in (line, whole + line, line + b"\n" + whole):
            record.write_bytes(content)
            must_describe(output, capsys)
    for damage in DAMAGES.values():
        record.write_bytes(whole)
        damage(record)
        must_describe(output, capsys)
    for name in ("events.jsonl", ".lock", "config.yaml"):
        (output / name).write_bytes(bytes(range(256)))
        must_describe(output, capsys)
    record.write_bytes(b"")
    assert start(output) == 0  # which appends to what is there
    assert is_right(output)


def test_what_is_not_a_record_is_still_reported(output: Path, capsys: Capture) -> None:
    record = output / "runs.jsonl"
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/zero")):
        record.unlink()
        make(record)
        must_describe(output, capsys)
        if record.is_dir():
            record.rmdir()
            record.touch()


def test_status_of_what_is_no_output_folder_is_a_mistake(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("nothing", "file", "loop", "x" * 300, "a\0b"):
        outcome = expect_exit("records and --status", partial(run.main, ["--status", str(tmp_path / name)]))
        assert outcome == 2
        assert "no such folder" in capsys.readouterr().err
    assert run.main(["--status", str(tmp_path)]) == 0
