from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.output.alive import this_process
from toolkit.output.claim import CLAIM_FILE, Claim, Claimed
from toolkit.output.lock import LOCK_FILE, FolderInUse, RunLock, holder

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


STARTS = (
    "import sys, time\nfrom pathlib import Path\nfrom toolkit.output.lock import FolderInUse, RunLock\n"
    "print('ready', flush=True)\n"
    "first, folders, locks = float(sys.stdin.readline()), sorted(Path(sys.argv[1]).iterdir()), {}\n"
    "for number, folder in enumerate(folders):\n"
    "    while time.time() < first + number / 50:\n        pass\n"
    "    try:\n        (lock := RunLock(folder)).__enter__()\n        locks[folder.name] = lock\n"
    "    except FolderInUse:\n        pass\n"
    "print(*locks, flush=True)\nsys.stdin.read()\n"
    "for lock in locks.values():\n    lock.__exit__(None, None, None)\n"
)


@pytest.mark.parametrize("has_dead_owner", [False, True])
def test_of_many_that_start_at_once_one_wins(tmp_path: Path, drive: str, has_dead_owner: bool) -> None:
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        if has_dead_owner:
            dead = json.dumps({"pid": 4, "host": "here", "since": "then", "process": _dead()})
            (folder / LOCK_FILE).write_text(dead)
            (folder / CLAIM_FILE).write_text(dead)
    command = [sys.executable, "-c", drive + STARTS, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(6)
        ]
        assert [other.stdout.readline() for other in others if other.stdout] == ["ready\n"] * 6
        soon = time.time() + 0.1
        for other in others:
            assert other.stdin is not None
            other.stdin.write(f"{soon}\n")
            other.stdin.flush()
        won = [name for other in others if other.stdout for name in other.stdout.readline().split()]
    assert sorted(won) == sorted(folder.name for folder in tmp_path.iterdir())
    assert {file.name for file in tmp_path.glob("*/*")} - {CLAIM_FILE} == {LOCK_FILE}
    assert not drive or not list(tmp_path.glob(f"*/{CLAIM_FILE}"))


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


def test_on_a_drive_without_locks_a_slow_start_follows_nobody_who_was_followed(tmp_path: Path) -> None:
    (tmp_path / CLAIM_FILE).write_text(json.dumps({"pid": 4, "process": _dead()}))
    quick = Claim(tmp_path)

    class Slow(Claim):
        def _dead_owner(self) -> dict[str, object]:
            dead = super()._dead_owner()
            quick.take()
            return dead

    with pytest.raises(Claimed):
        Slow(tmp_path).take()
    assert [file.name for file in tmp_path.iterdir()] == [CLAIM_FILE]
    quick.release()
    assert not list(tmp_path.iterdir())


def test_on_a_drive_without_locks_who_was_killed_while_it_took_over_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.output.lock._take", _no_locks)
    (tmp_path / CLAIM_FILE).write_text(json.dumps({"pid": 4, "process": _dead()}))
    killed = RunLock(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _killed)
        with pytest.raises(KeyboardInterrupt):
            killed.__enter__()
    heir = next(tmp_path.glob(f"{CLAIM_FILE}-*"))
    heir.write_text(json.dumps({**json.loads(heir.read_text()), "pid": 5, "process": _dead()}))
    with RunLock(tmp_path) as lock:
        assert "process 5" in str(lock.notice)
    assert not list(tmp_path.glob(f"{CLAIM_FILE}*"))


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


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
