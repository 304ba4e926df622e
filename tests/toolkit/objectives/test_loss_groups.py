"""The losses of a step by band of noise and by dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.toolkit.train.test_prediction import CONDITION
from toolkit.config import DatasetConfig, ModelConfig, TrainingProcessConfig
from toolkit.config.validation.settings import BANDS, NUM_BANDS, band_of
from toolkit.objectives.batch import Batch
from toolkit.objectives.loss_groups import GroupFigures, LossGroups
from toolkit.output.events import EventLog, read_events
from toolkit.runtime.progress import Progress
from toolkit.train.recorder import Recorder
from toolkit.train.step import StepResult

NAMES = ("0 cats", "1 dogs")


def _batch(*datasets: int) -> Batch:
    count = len(datasets)
    latents = torch.zeros(count, 64, 2, 2)
    return Batch(0, latents, CONDITION, torch.ones(count), num_tokens=4, datasets=torch.tensor(datasets))


def _added(groups: LossGroups, losses: list[float], sigmas: list[float], *datasets: int) -> None:
    groups.add(_batch(*datasets), torch.tensor(losses), torch.tensor(sigmas))


def _sums(groups: LossGroups) -> list[float]:
    assert groups.sums is not None
    return groups.sums.flatten().tolist()


def test_each_sample_counts_in_the_band_of_its_noise_and_in_its_dataset() -> None:
    groups = LossGroups(NAMES)
    _added(groups, [1.0, 3.0], [0.1, 0.9], 0, 1)
    _added(groups, [5.0, 2.0], [0.2, 0.3], 1, 1)
    means = GroupFigures.of_step(_sums(groups), 0.5, NAMES).means()
    assert means == {
        "loss_by_noise": {"0-0.25": 3.0, "0.25-0.5": 2.0, "0.75-1": 3.0},
        "grad_by_noise": {"0-0.25": 0.5, "0.25-0.5": 0.5, "0.75-1": 0.5},
        "loss_by_dataset": {"0 cats": 1.0, "1 dogs": 3.3333},
    }


@pytest.mark.parametrize("sigma", [1e-6, 0.25, 0.49999, 0.5, 0.75, 1.0])
def test_the_bands_are_those_of_validation(sigma: float) -> None:
    groups = LossGroups(())
    _added(groups, [1.0], [sigma], 0)
    assert _sums(groups)[NUM_BANDS:].index(1.0) == band_of(sigma)


def test_means_over_several_steps_are_means_of_all_their_samples() -> None:
    first, second = LossGroups(()), LossGroups(())
    _added(first, [1.0, 1.0, 1.0], [0.1, 0.1, 0.1], 0, 0, 0)
    _added(second, [5.0], [0.1], 0)
    both = GroupFigures.of_step(_sums(first), 1.0) + GroupFigures.of_step(_sums(second), 9.0)
    assert both.means() == {"loss_by_noise": {BANDS[0]: 2.0}, "grad_by_noise": {BANDS[0]: 3.0}}


def test_a_step_of_one_sample_takes_less_than_100_bytes_more_in_the_log(tmp_path: Path) -> None:
    groups = LossGroups(())
    _added(groups, [1 / 3], [0.4], 0)
    path = tmp_path / "events.jsonl"
    with EventLog(path) as events, Recorder(events, Progress(), log_dir=None, log_every=1) as recorder:
        for one in (LossGroups(()), groups):
            recorder.progress.start(9)
            recorder.record(1, StepResult({"velocity": torch.tensor(1 / 3)}, torch.tensor(2 / 3), 1e-4, one))
            recorder.flush()
    without, grouped = (line for line in path.read_text().splitlines() if '"kind": "step"' in line)
    assert len(grouped) - len(without) < 100
    event = json.loads(grouped)
    assert event["loss_by_noise"] == {"0.25-0.5": 0.33333}
    assert event["grad_by_noise"] == {"0.25-0.5": 0.66667}


def test_a_mean_that_is_not_finite_is_null_as_json_has_no_nan(tmp_path: Path) -> None:
    groups = LossGroups(())
    _added(groups, [float("nan")], [0.4], 0)
    with (
        EventLog(tmp_path / "events.jsonl") as events,
        Recorder(events, Progress(), log_dir=None, log_every=1) as recorder,
    ):
        recorder.progress.start(9)
        recorder.record(1, StepResult({"velocity": torch.tensor(float("nan"))}, torch.tensor(1.0), 1e-4, groups))
        recorder.flush()
    (step,) = (event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "step")
    assert step["loss_by_noise"] == {"0.25-0.5": None}
    assert "NaN" not in (tmp_path / "events.jsonl").read_text()


def test_datasets_are_named_by_place_and_folder_if_there_are_several() -> None:
    datasets = tuple(DatasetConfig(folder_path=Path(f"/data/{name}")) for name in ("cats", "dogs, all"))
    model = ModelConfig(name_or_path="small", arch="small")
    job = TrainingProcessConfig(type="sd_trainer", model=model, datasets=datasets)
    assert job.told_apart == ("0 cats", "1 dogs  all")
    assert job.model_copy(update={"datasets": datasets[:1]}).told_apart == ()
