from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.lock import LOCK_FILE, FolderInUse, RunLock

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom toolkit.lock import RunLock\n"
    "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def hold_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    with hold_elsewhere(tmp_path) as other:
        try:
            with pytest.raises(FolderInUse, match=f"in use by process {other.pid} on "), RunLock(tmp_path):
                pass
        finally:
            other.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_the_folder_of_a_killed_run_is_taken_over_with_a_notice(tmp_path: Path) -> None:
    with hold_elsewhere(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
    with RunLock(tmp_path) as lock:
        assert lock.notice is not None
        assert f"process {other.pid}" in lock.notice


def test_a_run_that_ended_leaves_the_folder_free(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLock(tmp_path / "new" / "folder") as lock:
            assert lock.notice is None


def test_a_failed_run_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ValueError), RunLock(tmp_path):
        raise ValueError
    with RunLock(tmp_path) as lock:
        assert lock.notice is None


def test_the_same_process_cannot_hold_a_folder_twice(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(FolderInUse, match=str(os.getpid())), RunLock(tmp_path):
        pass


def test_being_refused_leaves_the_owners_note(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        before = (tmp_path / LOCK_FILE).read_text()
        with pytest.raises(FolderInUse), RunLock(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).read_text() == before


def test_a_place_that_cannot_be_a_folder_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write to the output folder"), RunLock(tmp_path / "file" / "job"):
        pass


def test_of_many_that_start_at_once_one_wins(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom toolkit.lock import FolderInUse, RunLock\n"
        "try:\n    with RunLock(Path(sys.argv[1])):\n        print('won', flush=True)\n        sys.stdin.read()\n"
        "except FolderInUse:\n    print('lost', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [other.stdout.readline().strip() for other in others if other.stdout]
    for other in others:
        other.communicate()
    assert sorted(answers) == ["lost"] * 5 + ["won"]
