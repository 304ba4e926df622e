"""A rank on another machine, of whose process nothing can be seen from here, counts by its signs of life."""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from toolkit.output.alive import this_process
from toolkit.parallel import guard as guard_module
from toolkit.parallel.board import GONE, Board
from toolkit.parallel.guard import Guard

SILENT_S = 1.0  # longer than a busy machine leaves this process waiting


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the guard ends the process, which lives on here."""
    event = threading.Event()

    def leave(code: int) -> None:
        assert code == 1
        event.set()
        raise SystemExit

    monkeypatch.setattr(guard_module, "SILENT_S", SILENT_S)
    monkeypatch.setattr(guard_module, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(guard_module, "_SPEAK_S", 0.1)
    monkeypatch.setattr(os, "_exit", leave)
    return event


@pytest.fixture
def far(ended: threading.Event) -> Iterator[Board]:
    """The board of the second rank, which says that it is on another machine."""
    limit = datetime.timedelta(seconds=10)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=limit)
    here, there = (Board.connect("127.0.0.1", store.port, prefix="0", rank=rank, world=2) for rank in (0, 1))
    here.introduce()
    there.introduce()
    members = here.members(within_s=10)
    members[1] = replace(members[1], host="far", process=replace(this_process(), machine="far"))
    guard = Guard(here, members)
    guard.start()
    yield there
    guard.leave()
    del store


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the SystemExit above
def test_a_rank_elsewhere_that_gives_no_sign_of_life_ends_the_run(
    ended: threading.Event, far: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended.wait(60)
    fate = far.fate()
    assert fate is not None
    assert fate.text.startswith("rank 1 (far, process ")
    assert fate.text.endswith("has not responded for 1 s.")
    assert "All 2 ranks have stopped." in capsys.readouterr().err


def test_signs_of_life_and_a_word_at_the_end_keep_the_others_going(ended: threading.Event, far: Board) -> None:
    until = time.monotonic() + 1.5 * SILENT_S
    while time.monotonic() < until:
        far.beat(0, "somewhere")
        time.sleep(SILENT_S / 20)
    far.beat(0, GONE)
    assert not ended.wait(1.2 * SILENT_S)
