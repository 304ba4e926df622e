from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.output.alive import this_process
from toolkit.output.lock import CLAIM_FILE, LOCK_FILE, FolderInUse, RunLock, holder

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom toolkit.output.lock import RunLock\n"
    "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def hold_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_learns_which_run_is_there(tmp_path: Path) -> None:
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


@pytest.fixture(params=["with locks", "without locks"])
def drive(request: pytest.FixtureRequest) -> str:
    """What a script has to say first: nothing, or that its drive has no locks."""
    return NO_LOCKS if request.param == "without locks" else ""


NO_LOCKS = (
    "import errno\nfrom toolkit.output import lock\n"
    "def take(file):\n    raise OSError(errno.ENOLCK, 'no locks')\nlock._take = take\n"
)


@pytest.mark.parametrize("has_dead_owner", [False, True])
def test_of_many_that_start_at_once_one_wins(tmp_path: Path, drive: str, has_dead_owner: bool) -> None:
    if has_dead_owner:
        dead = json.dumps({"pid": 4, "host": "here", "since": "then", "process": _dead()})
        (tmp_path / LOCK_FILE).write_text(dead)
        (tmp_path / CLAIM_FILE).write_text(dead)
    script = (
        f"{drive}import sys\nfrom pathlib import Path\nfrom toolkit.output.lock import FolderInUse, RunLock\n"
        "sys.stdin.readline()\n"
        "try:\n    with RunLock(Path(sys.argv[1])):\n        print('won', flush=True)\n        sys.stdin.read()\n"
        "except FolderInUse:\n    print('lost', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for other in others:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
    answers = [other.stdout.readline().strip() for other in others if other.stdout]
    for other in others:
        other.communicate()
    assert sorted(answers) == ["lost"] * 5 + ["won"]


def _dead() -> dict[str, object]:
    """A process of this machine that had our number before us."""
    return {**asdict(this_process()), "started": this_process().started - 1}


def test_two_starts_at_once_leave_one_however_often(tmp_path: Path) -> None:
    def start(number: int) -> bool:
        barrier.wait()
        try:
            with RunLock(tmp_path / str(number)):
                barrier.wait()
        except FolderInUse:
            barrier.wait()
            return False
        return True

    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for number in range(100):
            assert sorted(pool.map(start, [number, number])) == [False, True]


def test_on_a_drive_without_locks_a_live_owner_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.output.lock._take", _no_locks)
    with RunLock(tmp_path), pytest.raises(FolderInUse, match=f"process {os.getpid()} .*delete"), RunLock(tmp_path):
        pass
    with RunLock(tmp_path) as lock:
        assert lock.notice is None


def test_on_a_drive_without_locks_a_recycled_number_is_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.output.lock._take", _no_locks)
    (tmp_path / CLAIM_FILE).write_text(json.dumps({"pid": os.getpid(), "process": _dead()}))
    with RunLock(tmp_path) as lock:
        assert "Took over" in str(lock.notice)


def test_on_a_drive_without_locks_another_machines_owner_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.output.lock._take", _no_locks)
    elsewhere = {**_dead(), "machine": "00000000"}
    (tmp_path / CLAIM_FILE).write_text(json.dumps({"pid": 4, "host": "there", "process": elsewhere}))
    with pytest.raises(FolderInUse, match="on there"), RunLock(tmp_path):
        pass
    assert "another machine" in str(holder(tmp_path))


def test_the_holder_is_named_while_it_lives(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with RunLock(tmp_path):
        assert f"process {os.getpid()}" in str(holder(tmp_path))
    assert holder(tmp_path) is None


def _no_locks(file: object) -> None:
    raise OSError(errno.ENOLCK, "no locks")
