"""A signal that comes while a checkpoint is being written: what is on disk is whole, and the run resumes from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.reliability.bundles import passed_over, valid_steps
from tests.reliability.cases import Case
from tests.reliability.faults import Aim
from tests.reliability.fork_server import ForkServer, Start
from tests.reliability.programs import start as start_program
from tests.reliability.torn_files import torn_files
from tests.reliability.witness import read_notes
from toolkit.weights.tensor_files import read_tensors

CASE = Case("lora", "adamw", has_ema=True, accumulation=1, number=0)  # saves every 2nd step and keeps one bundle
STOPPING, AT_ONCE = "the run finishes what it is doing and saves", "Stopped at once. Nothing was saved since"
LIMIT_S = 120


@dataclass(frozen=True)
class Whole:
    """The run that nobody stops."""

    weights: Path
    losses: dict[int, str]
    counts: dict[str, int]


@pytest.fixture(scope="module")
def whole(servers: list[ForkServer], smallest_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("signals") / "whole"
    start = Start(CASE.write(folder, smallest_model), "whole")
    assert servers[0].run(start).how == "done", start.file("log").read_text()
    counts = json.loads(start.file("counts").read_text())
    return Whole(folder / "output" / "job" / "job.safetensors", dict(read_notes(start.file("notes"))), counts)


def _resumes_as_if_uninterrupted(job: Path, stopped: Start | None, whole: Whole, server: ForkServer) -> None:
    rest = Start(job, "rest")
    assert server.run(rest).how == "done", rest.file("log").read_text()
    notes = [*(read_notes(stopped.file("notes")) if stopped else []), *read_notes(rest.file("notes"))]
    assert all(whole.losses[step] == loss for step, loss in notes)
    one, other = read_tensors(whole.weights), read_tensors(job.parent / "output" / "job" / "job.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("place", ["checkpoint", "manifest", "prune"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_after_one_signal_the_save_is_finished_and_the_run_ends(
    name: str, place: str, whole: Whole, servers: list[ForkServer], smallest_model: Path, tmp_path: Path
) -> None:
    job = CASE.write(tmp_path, smallest_model)
    start = Start(job, "stopped", aim=Aim(place, whole.counts[place] // 2, (name,)))
    assert servers[0].run(start).how == "interrupted", start.file("log").read_text()
    output = tmp_path / "output" / "job"
    done = read_notes(start.file("notes"))[-1][0] + 1
    assert valid_steps(output) == [done], "what was being written is whole, and retention has done its work"
    assert not passed_over(output) and not torn_files(tmp_path)
    assert STOPPING in start.file("log").read_text() and AT_ONCE not in start.file("log").read_text()
    _resumes_as_if_uninterrupted(job, start, whole, servers[0])
    assert read_notes(tmp_path / "rest.notes")[0][0] == done, "no step is made twice"


@pytest.mark.parametrize("place", ["checkpoint", "manifest", "prune"])
@pytest.mark.parametrize("names", [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM")], ids="+".join)
def test_after_two_signals_the_run_ends_at_once_and_the_bundle_before_is_whole(
    names: tuple[str, ...], place: str, whole: Whole, servers: list[ForkServer], smallest_model: Path, tmp_path: Path
) -> None:
    job = CASE.write(tmp_path, smallest_model)
    start = Start(job, "stopped", aim=Aim(place, whole.counts[place] // 2, names))
    assert servers[0].run(start).how == "interrupted", start.file("log").read_text()
    output = tmp_path / "output" / "job"
    done = read_notes(start.file("notes"))[-1][0] + 1
    assert valid_steps(output)[-1] in (done, done - CASE.save_every)
    assert not torn_files(tmp_path)
    assert AT_ONCE in start.file("log").read_text()
    _resumes_as_if_uninterrupted(job, start, whole, servers[0])


def test_run_py_ends_with_130_and_says_what_it_did(
    whole: Whole, servers: list[ForkServer], smallest_model: Path, tmp_path: Path
) -> None:
    job, log = CASE.write(tmp_path, smallest_model), tmp_path / "log.txt"
    aim = Aim("manifest", whole.counts["manifest"] // 2, ("SIGTERM",))
    assert start_program(job, log, aim=aim).wait(LIMIT_S) == 130, log.read_text()
    (step,) = valid_steps(tmp_path / "output" / "job")
    assert STOPPING in log.read_text() and f"Stopped after step {step} and saved." in log.read_text()
    _resumes_as_if_uninterrupted(job, None, whole, servers[0])
