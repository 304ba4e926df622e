"""Steps whose loss or gradient is not finite change nothing, and are told; too many of them end the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import run_job, write_job
from toolkit.config import load_job
from toolkit.data.report.exposure import Exposure
from toolkit.data.scan import scan_job
from toolkit.objectives.batch import Batch
from toolkit.output.events import read_events
from toolkit.output.run_record import read_runs
from toolkit.output.skipped_steps import SkippedSteps
from toolkit.train.step import Stepper

NAN = math.nan


def skipped(losses: Sequence[float], **options: Any) -> tuple[SkippedSteps, list[str]]:
    told: list[str] = []
    seen = SkippedSteps(lambda step: f"picture {step}", told.append, **options)
    for step, loss in enumerate(losses, 1):
        seen.see(step, loss, 1.0)
    return seen, told


def test_a_skipped_step_is_told_with_its_pictures() -> None:
    seen, told = skipped([1.0, NAN, 1.0])
    assert told == ["step 2 was skipped: its loss is nan (picture 1)."]
    assert seen.summary() == "1 step skipped: loss or gradient not finite"
    assert seen.problem is None


def test_many_in_a_row_end_the_run_and_scattered_ones_do_not() -> None:
    seen, _ = skipped([NAN, NAN, 1.0] * 10, most_in_a_row=3)
    assert (seen.count, seen.problem) == (20, None)
    seen, _ = skipped([1.0, NAN, NAN, NAN], most_in_a_row=3)
    assert "in each of the last 3 steps, up to step 4: training has diverged" in str(seen.problem)
    assert "train.lr is too high" in str(seen.problem)


def test_a_run_that_ends_in_skipped_steps_has_not_gone_well() -> None:
    for losses, is_problem in (([1.0, NAN], False), ([1.0, NAN, NAN], True), ([NAN, NAN, 1.0], False)):
        seen, _ = skipped(losses)
        seen.end()
        assert (seen.problem is not None) == is_problem


def test_not_every_step_of_thousands_is_told() -> None:
    seen, told = skipped([NAN, 1.0] * 100)
    assert (seen.count, len(told)) == (100, 20)
    assert told[-1].endswith("Further ones are counted but not reported.")


@pytest.fixture
def plant_nan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pictures full of NaN in some steps, counted from 1."""

    def plant(*steps: int) -> None:
        train_step = Stepper.train_step

        def struck(self: Stepper, step: int, batches: Sequence[Batch], **options: Any) -> Any:
            if step + 1 in steps:
                batches[0].latents.fill_(NAN)
            return train_step(self, step, batches, **options)

        monkeypatch.setattr(Stepper, "train_step", struck)

    return plant


@pytest.mark.parametrize(
    "train",
    [
        {"optimizer": "adamw"},
        {"optimizer": "muon"},
        {"full_finetune": True, "full_finetune_weights": "bf16_stochastic", "dtype": "bf16"},
        {"full_finetune": True, "fused_backward_pass": True, "max_grad_norm": 0},
    ],
    ids=lambda train: " ".join(map(str, train.values())),
)
def test_a_broken_picture_breaks_no_weight(train: dict[str, Any], plant_nan: Any, tmp_path: Path) -> None:
    plant_nan(3)
    sections: dict[str, Any] = {"network": None} if train.get("full_finetune") else {}
    assert run_job(write_job(tmp_path, train={**train, "steps": 5}, **sections)).status == "done"
    events = list(read_events(tmp_path / "output" / "job" / "events.jsonl"))
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    assert [loss is not None for loss in losses] == [True, True, False, True, True]
    warnings = [event["text"] for event in events if event["kind"] == "warning"]
    config = load_job(tmp_path / "output" / "job" / "config.yaml").training()
    assert config.card is not None
    exposure = Exposure(config, scan_job(config, config.card).examples, batches_per_step=1)
    names = ", ".join(path.name for path in exposure.images(3))
    assert any(f"step 3 was skipped: its loss is nan (2 images of 32 x 32: {names})" in text for text in warnings)
    assert "1 step skipped: loss or gradient not finite" in warnings


def test_a_run_that_has_diverged_saves_and_says_why(
    plant_nan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant_nan(*range(3, 100))
    assert run_job(write_job(tmp_path, train={"steps": 5}, save={"save_every": 2})).status == "failed"
    folder = tmp_path / "output" / "job"
    assert sorted(path.name for path in (folder / "state").iterdir())[-1] == "000000005"
    assert not (folder / "job.safetensors").exists(), "these are not the weights that were asked for"
    assert read_runs(folder)[-1].status == "failed"
    assert "in each of the last 3 steps, up to step 5: training has diverged" in capsys.readouterr().err


@pytest.mark.parametrize("times", [1, 2])
def test_a_step_that_finds_the_card_full_is_tried_once_more(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(write_job(tmp_path / "a", train={"steps": 4})).status == "done"
    predict, left = Stepper._predict, [times]

    def struck(self: Stepper, batch: Batch) -> Any:
        if batch.index == 2 and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict(self, batch)

    monkeypatch.setattr(Stepper, "_predict", struck)
    status = run_job(write_job(tmp_path / "b", train={"steps": 4})).status
    logs = [list(read_events(tmp_path / name / "output" / "job" / "events.jsonl")) for name in ("a", "b")]
    losses = [[event["loss"] for event in log if event["kind"] == "step"] for log in logs]
    warnings = [event["text"] for event in logs[1] if event["kind"] == "warning"]
    assert any("the card was full in step 3, with 2 images of 32 x 32: " in text for text in warnings)
    if times == 1:
        assert status == "done"
        assert losses[0] == losses[1]
    else:
        assert status == "failed"
        assert losses[1] == losses[0][:2], "a step that failed is not counted as done"
        assert "for the second time in step 3" in capsys.readouterr().err
