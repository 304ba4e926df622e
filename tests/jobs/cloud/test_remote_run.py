from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs.cloud.remote_run import Nodes, NotFinished, forget_lost_machines, run_until
from toolkit.output.claim import CLAIM_FILE

# Saves when it is told to, and counts how often that is.
SAVES = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(*_):
    (folder / "signals").open("a").write("x")
    time.sleep(0.3)
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
(folder / "ready").touch()
time.sleep(60)
"""


def ends_with(code: int) -> list[str]:
    return [sys.executable, "-c", f"raise SystemExit({code})"]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_run_that_ends_by_itself_gives_its_exit_code(code: int) -> None:
    assert run_until(ends_with(code), limit_s=60) == code


def test_a_run_that_was_stopped_has_to_be_started_again() -> None:
    with pytest.raises(NotFinished):
        run_until(ends_with(130), limit_s=60)


def test_a_run_is_told_to_save_when_its_time_is_over(tmp_path: Path) -> None:
    with pytest.raises(NotFinished):
        run_until([sys.executable, "-c", SAVES, str(tmp_path)], limit_s=3)
    assert (tmp_path / "signals").read_text() == "x"


def test_a_run_that_finishes_while_it_is_told_to_stop_is_finished() -> None:
    finishes = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(60)"
    assert run_until([sys.executable, "-c", finishes], limit_s=3) == 0


def test_a_preempted_run_is_told_once_and_has_saved_when_the_interrupt_goes_on(tmp_path: Path) -> None:
    def preempt() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        time.sleep(0.5)  # on a busy machine the run may be ready before the call that starts it has returned
        os.kill(os.getpid(), signal.SIGINT)

    kept: list[bool] = []
    threading.Thread(target=preempt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_until(
            [sys.executable, "-c", SAVES, str(tmp_path)],
            limit_s=60,
            keep=lambda: kept.append((tmp_path / "signals").exists()),
        )
    assert (tmp_path / "signals").read_text() == "x"
    assert kept == [True]


def test_what_is_written_is_kept_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    kept: list[float] = []
    waits = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"

    def keep() -> None:
        kept.append(time.monotonic())
        if len(kept) == 2:
            (tmp_path / "twice").touch()

    run_until([sys.executable, "-c", waits, str(tmp_path / "twice")], limit_s=60, keep=keep, keep_every_s=0.2)
    assert len(kept) >= 3


def test_the_claim_of_a_machine_that_is_gone_is_given_up(tmp_path: Path) -> None:
    (tmp_path / CLAIM_FILE).write_text('{"host": "gone"}')
    forget_lost_machines([tmp_path, tmp_path / "never written"])
    assert not (tmp_path / CLAIM_FILE).exists()


def test_one_process_needs_no_launcher() -> None:
    command = Nodes().command(Path("job.yaml"))
    assert command[0] == sys.executable
    assert command[1].endswith("run.py")
    assert command[2:] == ["job.yaml"]


def test_the_processes_of_one_machine_meet_by_themselves() -> None:
    command = Nodes(num_gpus=4).command(Path("job.yaml"))
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]


def test_several_machines_meet_at_the_first() -> None:
    command = Nodes(8, count=2, rank=1, head="10.0.0.1").command(Path("job.yaml"))
    assert {"--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.1", "--nproc-per-node=8"} <= set(command)
