"""What happens between steps, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_run import STEPS, Crash, SmallRun
from toolkit.errors import Interrupted
from toolkit.output.events import read_events
from toolkit.runtime.control import Command
from toolkit.runtime.stop import StopRequest
from toolkit.train.tasks.task import Ending


class Notes:
    """A task that is due after every third step, or when a sample is asked for, and records what it sees."""

    command: Command | None = "sample"
    is_for_all = False

    def __init__(self, folder: Path, *, has_work: bool = True) -> None:
        self.folder = folder
        self.has_work = has_work
        self.lines: list[str] = []

    def begin(self, step: int, stop: StopRequest) -> bool:
        self._note(f"begin {step}")
        return self.has_work

    def is_due(self, step: int) -> bool:
        return step % 3 == 0

    def run(self, step: int, stop: StopRequest) -> None:
        self._note(f"run {step}")

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        self._note(f"finish {step} {ending.name}")

    def _note(self, what: str) -> None:
        saved = sorted(int(path.parent.name) for path in self.folder.glob("state/*/manifest.json"))
        self.lines.append(f"{what}, saved {saved}")


EVERY_THIRD = {"save_every": 3, "max_step_saves_to_keep": 0}


def test_tasks_run_when_due_in_their_order_and_the_last_step_has_an_end_of_its_own(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    SmallRun(save=EVERY_THIRD).run(tmp_path, tasks=[notes])
    assert notes.lines == ["begin 0, saved []", "run 3, saved [3]", f"finish {STEPS} COMPLETE, saved [3, {STEPS}]"]
    assert STEPS % 3 == 0, "it was due after the last step, too"


def test_a_start_with_nothing_left_says_so_to_its_tasks(tmp_path: Path) -> None:
    SmallRun().run(tmp_path)
    notes = Notes(tmp_path)
    SmallRun().run(tmp_path, tasks=[notes])
    assert [line.partition(",")[0] for line in notes.lines] == [f"begin {STEPS}", f"finish {STEPS} NOTHING_LEFT"]


@pytest.mark.parametrize(("stop_in", "expected"), [(2, ["finish 2"]), (3, ["run 3", "finish 3"])])
def test_a_request_to_stop_finishes_the_tasks_after_the_step_is_saved(
    tmp_path: Path, stop_in: int, expected: list[str]
) -> None:
    notes = Notes(tmp_path)
    with pytest.raises(Interrupted, match=f"after step {stop_in} and saved"):
        SmallRun(save=EVERY_THIRD).run(tmp_path, stop_in=stop_in, tasks=[notes])
    assert notes.lines == [
        "begin 0, saved []",
        *(f"{what}{' STOPPED' if 'finish' in what else ''}, saved [{stop_in}]" for what in expected),
    ]


@pytest.mark.parametrize("has_work", [True, False])
def test_a_request_to_stop_before_the_first_step_is_heeded_where_a_task_had_work(
    tmp_path: Path, has_work: bool
) -> None:
    class Stopping(Notes):
        """Is asked to stop while it begins."""

        def begin(self, step: int, stop: StopRequest) -> bool:
            stop.request()
            return super().begin(step, stop)

    notes = Stopping(tmp_path, has_work=has_work)
    with pytest.raises(Interrupted, match="before the first step" if has_work else "after step 1 and saved"):
        SmallRun().run(tmp_path, tasks=[notes])
    assert len(notes.lines) == (1 if has_work else 2)


def test_a_command_is_carried_out_once_after_the_step_in_which_it_came(tmp_path: Path) -> None:
    class Commanding(Notes):
        """Is asked for a sample, twice, before the first step."""

        def begin(self, step: int, stop: StopRequest) -> bool:
            stop.commands.source = lambda: self._command_once(stop)
            return super().begin(step, stop)

        def _command_once(self, stop: StopRequest) -> None:
            if len(self.lines) == 1:
                stop.commands.add("sample")
                stop.commands.add("sample")

    notes = Commanding(tmp_path)
    SmallRun(save=EVERY_THIRD).run(tmp_path, tasks=[notes])
    assert [line.partition(",")[0] for line in notes.lines] == ["begin 0", "run 1", "run 3", f"finish {STEPS} COMPLETE"]


def test_a_command_to_save_writes_a_checkpoint_that_a_later_start_resumes_from_with_equal_losses(
    tmp_path: Path,
) -> None:
    class SaveAfterOne(Notes):
        """Asks for a checkpoint when the loop looks for the first time."""

        def begin(self, step: int, stop: StopRequest) -> bool:
            waiting = ["save"]
            stop.commands.source = lambda: stop.commands.add("save") if waiting and waiting.pop() else None
            return False

    plain, asked = tmp_path / "plain", tmp_path / "asked"
    SmallRun(save=EVERY_THIRD).run(plain)
    with pytest.raises(Crash):
        SmallRun(save=EVERY_THIRD).run(asked, tasks=[SaveAfterOne(asked)], crash_in=2)
    assert [path.name for path in (asked / "state").iterdir()] == ["000000001"]
    SmallRun(save=EVERY_THIRD).run(asked)
    losses = [
        {event["step"]: event["loss"] for event in read_events(folder / "events.jsonl") if event["kind"] == "step"}
        for folder in (plain, asked)
    ]
    assert losses[0] == losses[1]
