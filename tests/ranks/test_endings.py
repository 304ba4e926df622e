"""However one rank ends, all end soon, one message says why, and the last checkpoint is whole."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.ranks.launcher import End, Launcher
from tests.ranks.test_same_run import STEPS, is_same, write
from tests.ranks.trouble import Trouble
from tests.reliability.bundles import valid_steps
from tests.reliability.torn_files import torn_files
from tests.tiny import losses
from toolkit.output.run_record import read_runs

WITHIN_S = 15.0
HANG = {"RANKS_TIMEOUT_S": "2"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, smallest_model: Path) -> Path:
    """The folder of a run that nothing has befallen."""
    folder = tmp_path_factory.mktemp("whole")
    assert launcher.run(folder, 2, str(write(folder, smallest_model))).codes == [0, 0]
    return folder


def _messages(end: End) -> list[str]:
    return re.findall(r"rank \d \([^)]*\)[^\n]*", end.text)


def _ended_well(end: End, folder: Path) -> None:
    assert end.after_s < WITHIN_S, end
    assert not torn_files(folder)
    assert len(_messages(end)) <= 1, end.text
    assert "Traceback" not in end.text, end.text


def test_after_each_kill_all_are_gone_and_the_next_start_goes_on(
    launcher: Launcher, smallest_model: Path, whole: Path, tmp_path: Path
) -> None:
    """One run that is killed again and again, each time further on; step 3 is the first that is saved."""
    job, output = write(tmp_path, smallest_model), tmp_path / "output" / "job"
    kills = [
        Trouble(0, "encode", "kill"),
        Trouble(1, "load", "kill"),
        Trouble(0, "step", "kill", 5),
        Trouble(1, "step", "kill", 2),
        Trouble(0, "save", "kill"),
    ]
    for kill in kills:
        end = launcher.run(tmp_path, 2, str(job), troubles=[kill])
        rank = kill.rank
        _ended_well(end, tmp_path)
        assert end.codes[rank] == -signal.SIGKILL
        assert end.codes[1 - rank] == 1
        assert re.search(rf"rank {rank} \(\S+, process \d+\) has ended without a message", end.text), end.text
        assert "All 2 ranks have stopped." in end.text
        assert read_runs(output)[-1].status == ("killed" if rank == 0 else "failed")
        assert valid_steps(output) == ([3] if kill in kills[2:] else [])
    assert launcher.run(tmp_path, 2, str(job)).codes == [0, 0]
    assert is_same(tmp_path, whole)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Trouble(1, "step", "hang", 3), r"rank 1 \(.*\) hangs: for 2 s it has not reached .* tests/ranks/trouble.py"),
        pytest.param(Trouble(0, "step", "hang", 3), r"rank 0 \(.*\) hangs", marks=pytest.mark.torture),
        (Trouble(1, "step", "memory", 3), r"rank 1 \(\S+\): .*out of memory"),
        pytest.param(Trouble(0, "step", "memory", 3), r"rank 0 \(\S+\): .*out of memory", marks=pytest.mark.torture),
        (Trouble(1, "load", "error"), r"rank 1 \(\S+\): .*(?s:.*)something is broken"),
        (Trouble(0, "save", "full disk"), r"rank 0 \(\S+\): .*the disk is full"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else f"{value.rank} {value.place} {value.what}",
)
def test_one_message_names_the_rank_and_the_reason(
    trouble: Trouble, said: str, launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    job = write(tmp_path, smallest_model, save={"save_every": 2})
    end = launcher.run(tmp_path, 2, str(job), troubles=[trouble], environment=HANG)
    assert set(end.codes) == {1}, end
    assert re.search(said, end.text), end.text
    assert end.text.count("ranks have stopped") == 1, end.text
    assert end.after_s < WITHIN_S
    output = tmp_path / "output" / "job"
    assert valid_steps(output) == ([2] if trouble.place == "step" else [])
    assert read_runs(output)[-1].status == "failed"


def test_a_broken_batch_on_one_rank_is_skipped_by_all(launcher: Launcher, smallest_model: Path, tmp_path: Path) -> None:
    job = write(tmp_path, smallest_model, save={"save_every": 2})
    end = launcher.run(tmp_path, 2, str(job), troubles=[Trouble(1, "step", "nan", 3)])
    assert end.codes == [0, 0], end
    assert end.text.count("step 3 was skipped: its loss is nan") == 1, end.text
    found = losses(tmp_path / "output" / "job")
    assert [step for step, loss in found.items() if loss is None] == [3]
    assert STEPS in valid_steps(tmp_path / "output" / "job")


def test_a_request_to_stop_on_any_rank_stops_all_after_the_same_step(
    launcher: Launcher, smallest_model: Path, whole: Path, tmp_path: Path
) -> None:
    """One run that is stopped on a rank, and on both; step 3 is saved anyway."""
    job, output = write(tmp_path, smallest_model), tmp_path / "output" / "job"
    for rank, nth, step in ((1, 2, 2), (-1, 2, 4)):
        end = launcher.run(tmp_path, 2, str(job), troubles=[Trouble(rank, "step", "stop", nth)])
        assert end.codes == [130, 130], end
        assert end.text.count(f"Stopped after step {step} and saved") == 1, end.text
        assert valid_steps(output)[-1] == step
        assert read_runs(output)[-1].status == "interrupted"
    assert launcher.run(tmp_path, 2, str(job)).codes == [0, 0]
    assert STEPS in valid_steps(output)
    assert losses(output) == losses(whole / "output" / "job")
