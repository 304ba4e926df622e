"""The control folder."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.test_architecture import HEAVY, ROOT
from toolkit.runtime.control import CONTROL_FOLDER, ControlFolder, PendingCommands, send


def test_commands_come_in_order_once_and_leave_nothing(tmp_path: Path) -> None:
    control = ControlFolder(tmp_path)
    for command in ("save", "sample", "save", "stop"):
        send(tmp_path, command)
    assert control.take() == ["save", "sample", "save", "stop"]
    assert control.take() == [] and not list((tmp_path / CONTROL_FOLDER).iterdir())
    control.clear(before_ns=0)
    assert not list(tmp_path.iterdir())


def test_what_is_no_command_is_let_alone(tmp_path: Path) -> None:
    folder = tmp_path / CONTROL_FOLDER
    folder.mkdir()
    for name in ("stop", "1-stop.json.part", "1-dance.json", "x-stop.json", ".part-1-stop.json"):
        (folder / name).touch()
    assert ControlFolder(tmp_path).take() == []
    assert len(list(folder.iterdir())) == 5


def test_what_was_sent_to_an_earlier_run_is_forgotten(tmp_path: Path) -> None:
    send(tmp_path, "stop")
    (tmp_path / CONTROL_FOLDER / ".part-cut").touch()
    between = time.time_ns()
    send(tmp_path, "save")
    control = ControlFolder(tmp_path)
    control.clear(before_ns=between)
    assert control.take() == ["save"]
    control.clear(before_ns=time.time_ns())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        send(tmp_path / "absent", "stop")
    assert not list(tmp_path.iterdir())


def test_no_command_is_lost_or_taken_twice_while_several_look(tmp_path: Path) -> None:
    taken: list[str] = []
    done = threading.Event()

    def look() -> None:
        control = ControlFolder(tmp_path)
        while not done.is_set():
            taken.extend(control.take())
            time.sleep(0.001)
        taken.extend(control.take())

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            send(tmp_path, "save")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert taken == ["save"] * 40


def test_a_command_is_pending_until_it_is_taken() -> None:
    pending = PendingCommands()
    pending.add("save")
    pending.add("save")
    assert not pending.take("sample") and not pending.take(None)
    assert pending.take("save") and not pending.take("save")


def test_sending_loads_no_model_library(tmp_path: Path) -> None:
    script = f"import sys, toolkit.runtime.control, toolkit.runtime.watch; print({HEAVY!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
