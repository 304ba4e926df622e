"""When toolkit.train.tasks.task saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.small_run import STEPS, Crash, SmallRun
from toolkit.config import SaveConfig
from toolkit.output.bundles import step_folders
from toolkit.runtime.control import PendingCommands

KEEP_ALL = {"max_step_saves_to_keep": 0, "max_states_to_keep": 0}


def steps_saved(folder: Path) -> list[int]:
    return [int(path.name) for path in step_folders(folder)]


@pytest.mark.parametrize(
    ("save", "steps"),
    [
        ({"save_every": 0}, [STEPS]),
        ({"save_every": 0, "save_every_epochs": 1}, [2, 4, STEPS]),
        ({"save_every": 3, "save_every_epochs": 2}, [3, 4, STEPS]),
        ({"save_every": 0, "save_every_minutes": 1e-9}, [1, 2, 3, 4, 5, STEPS]),
        ({"save_every": 0, "save_every_minutes": 60}, [STEPS]),
    ],
)
def test_checkpoints_are_written_by_steps_epochs_and_minutes(
    tmp_path: Path, save: dict[str, Any], steps: list[int]
) -> None:
    SmallRun(save={**save, **KEEP_ALL}).run(tmp_path)
    assert steps_saved(tmp_path) == steps


def test_a_run_resumed_from_a_checkpoint_that_an_epoch_wrote_ends_with_the_same_weights(tmp_path: Path) -> None:
    run = SmallRun(save={"save_every": 0, "save_every_epochs": 1})
    run.run(tmp_path / "whole")
    with pytest.raises(Crash):
        run.run(tmp_path / "parts", crash_in=4)
    assert steps_saved(tmp_path / "parts") == [2]
    run.run(tmp_path / "parts")
    whole, parts = ((tmp_path / name / "job.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_repeated_command_is_added_once_its_time_has_come() -> None:
    commands = PendingCommands()
    commands.repeat("save", 0)
    commands.repeat("sample", 3600)
    for _ in range(2):
        commands.look()
        assert commands.take("save") and not commands.take("save")
        assert not commands.take("sample")


def test_the_plan_says_when_checkpoints_are_written() -> None:
    save = SaveConfig(save_every=100, save_every_epochs=2, save_every_minutes=30)
    assert save.times == ("100", "2 epochs", "30 min")
    assert not SaveConfig(save_every=0).is_between
