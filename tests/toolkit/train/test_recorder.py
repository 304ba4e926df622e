"""The figures of a run on their way to its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.counts import Operators
from toolkit.output.events import EventLog, read_events
from toolkit.runtime.progress import Progress
from toolkit.train.recorder import Recorder
from toolkit.train.step import StepResult


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    progress = Progress()
    progress.start(10)
    with (
        EventLog(tmp_path / "events.jsonl") as events,
        Recorder(events, progress, log_dir=None, log_every=1) as recorder,
    ):
        yield recorder


def _result(**terms: float) -> StepResult:
    return StepResult({name: torch.tensor(value) for name, value in terms.items()}, torch.tensor(0.5), 0.25)


def test_each_term_is_logged_by_its_name_beside_their_sum(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(1, _result(velocity=1.5))
    recorder.record(2, _result(velocity=1.5, preservation=2.0))
    recorder.flush()
    steps = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "step"]
    assert [event["loss"] for event in steps] == [1.5, 3.5]
    assert [event["terms"] for event in steps] == [{"velocity": 1.5}, {"velocity": 1.5, "preservation": 2.0}]
    assert {(event["grad_norm"], event["lr"]) for event in steps} == {(0.5, 0.25)}


def test_what_is_recorded_is_read_a_step_late_and_nothing_else_waits_for_the_device(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Any] = []
    to_list = Tensor.tolist

    def fetch(tensor: Tensor) -> Any:
        fetched.append(to_list(tensor))
        return fetched[-1]

    monkeypatch.setattr(Tensor, "tolist", fetch)
    for name in ("item", "__float__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, lambda *_: pytest.fail("another wait"))
    with Operators() as seen:
        for step in range(1, 4):
            recorder.record(step, _result(velocity=float(step), preservation=2.0))
    assert fetched == []
    assert seen.host_reads == 0
    recorder.flush_earlier()
    assert [loss for loss, *_ in fetched] == [3.0, 4.0]  # the device may still be computing the third
    recorder.flush()
    steps = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "step"]
    assert [event["loss"] for event in steps] == [3.0, 4.0, 5.0]


def test_a_loss_or_term_that_is_not_finite_is_a_skipped_step(recorder: Recorder) -> None:
    recorder.record(1, _result(velocity=1.0))
    recorder.record(2, _result(velocity=float("nan")))
    recorder.flush_earlier()
    assert recorder.skipped.count == 0
    recorder.flush()
    assert recorder.skipped.count == 1
    recorder.record(3, _result(velocity=1.0, preservation=float("nan")))
    recorder.flush()
    assert recorder.skipped.count == 2
