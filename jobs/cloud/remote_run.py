"""Runs a job on a machine that may be taken away at any moment, and says whether to start it again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.extension import REPOSITORY
from toolkit.output.claim import CLAIM_FILE
from toolkit.runtime.stop import EXIT_CODE

_PORT = 29500


class NotFinished(Exception):
    """The run saved and stopped early: the same command continues it."""


@dataclass(frozen=True)
class Nodes:
    """The machines that run a job together.

    Attributes:
        num_gpus: cards of each machine; one process is started for each.
        count: number of machines.
        rank: number of this machine, from 0.
        head: address of machine 0; unused if there is only one.
    """

    num_gpus: int = 1
    count: int = 1
    rank: int = 0
    head: str = "localhost"

    def command(self, job_file: Path) -> list[str]:
        """The command that runs a job on this machine's share of the cards."""
        run = [str(REPOSITORY / "run.py"), str(job_file)]
        if self.num_gpus * self.count == 1:
            return [sys.executable, *run]
        meet = ["--standalone"]
        if self.count > 1:
            meet = [f"--nnodes={self.count}", f"--node-rank={self.rank}"]
            meet += [f"--master-addr={self.head}", f"--master-port={_PORT}"]
        return [sys.executable, "-m", "torch.distributed.run", *meet, f"--nproc-per-node={self.num_gpus}", *run]


def forget_lost_machines(folders: Iterable[Path]) -> None:
    """Release the claims on output folders that machines left behind when they disappeared.

    They are made where a drive has no file locks, and say that another machine may still be at work. The provider runs
    a job on one machine at a time: whoever claimed the folder before this one is gone.
    """
    for folder in folders:
        (folder / CLAIM_FILE).unlink(missing_ok=True)


def run_until(
    command: Sequence[str], *, limit_s: float, keep: Callable[[], None] = lambda: None, keep_every_s: float = 60.0
) -> int:
    """Run a command until it ends, or until its time is over.

    Args:
        command: starts the run, in the trainer's folder.
        limit_s: time after which the run is told to save and stop.
        keep: makes what the run has written outlast this machine; called now and then, and at the end.
        keep_every_s: time between two calls of `keep`.

    Returns:
        The run's exit code: 0 if it has finished; otherwise to start it again would not help.

    Raises:
        NotFinished: the run has stopped early because it was told to.
        KeyboardInterrupt: this process was, such as by a provider that takes the machine back. The run has been told
            to save, and has ended.
    """
    end = time.monotonic() + limit_s
    # In a session of its own it gets only the signal that is passed on here: a second one would stop it unsaved.
    run = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    is_told = False
    try:
        while (code := _wait(run, min(keep_every_s, end - time.monotonic()))) is None:
            keep()
            if time.monotonic() >= end and not is_told:
                is_told = True
                run.terminate()
                end = float("inf")
    except BaseException:
        run.terminate()  # it has `save.term_grace_s` seconds
        run.wait()
        keep()
        raise
    keep()
    if code and (is_told or code == EXIT_CODE):
        raise NotFinished("the run saved and stopped early")
    return code


def _wait(run: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return run.wait(max(0.1, seconds))
    except subprocess.TimeoutExpired:
        return None
