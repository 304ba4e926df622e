"""What is asked of a run under way: to stop, to save, to draw samples; and its end on demand."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

from toolkit.output.alive import ProcessIdentity
from toolkit.runtime.control import Command, send
from ui.server.jobs.job import Job
from ui.server.jobs.launch import process_of
from ui.server.refusal import Refusal

_LAST_WORDS_S = 3.0
_BETWEEN_SIGNALS_S = 0.2


def ask(job: Job, command: Command) -> None:
    """Ask the run of a job for something: `stop`, `save` or `sample`.

    Raises:
        Refusal: it cannot be asked.
    """
    is_recorded = job.run is not None and not job.run.end and not job.is_launch_newer
    if is_recorded and not job.lost:
        send(job.folder, command)
    elif command == "stop":
        _signal(live_process(job), signal.SIGINT)
    elif job.lost:
        raise Refusal(409, job.reason)
    else:
        raise Refusal(409, "The run isn't far enough along for this yet. Try again once it is training.")


def end_at_once(job: Job, done: Callable[[], None] = lambda: None) -> None:
    """End the process of a job: first so that it can say its last words, then, if it does not, by force.

    Raises:
        Refusal: there is no such process on this machine.
    """
    process = live_process(job)
    is_ours = job.launch is not None and job.launch.process == process

    def end() -> None:
        for _ in range(2):
            with contextlib.suppress(Refusal):
                _signal(process, signal.SIGINT)
            time.sleep(_BETWEEN_SIGNALS_S)
        until = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < until and process.is_alive():
            time.sleep(0.05)
        if process.is_alive():  # looked at again: the number may be another's by now
            with contextlib.suppress(OSError):
                if is_ours and hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        done()

    threading.Thread(target=end, daemon=True, name="end-at-once").start()


def live_process(job: Job) -> ProcessIdentity:
    """The process that works in the folder of a job.

    Raises:
        Refusal: there is none that lives on this machine.
    """
    candidates: list[ProcessIdentity | None] = [] if job.away is None else [job.away.process]
    if job.launch is not None:
        candidates.append(process_of(job.folder, job.launch))
    if job.run is not None and not job.run.end:
        with contextlib.suppress(KeyError, TypeError):
            candidates.append(ProcessIdentity(**job.run.start["process"]))
    for process in reversed(candidates):
        if process is not None and process.is_alive():
            return process
    raise Refusal(409, "This job's process has ended or is on another machine.")


def _signal(process: ProcessIdentity, number: int) -> None:
    if not process.is_alive():
        raise Refusal(409, "This job's process has just ended.")
    try:
        os.kill(process.pid, number)
    except PermissionError as error:
        raise Refusal(409, f"Process {process.pid} belongs to another user. Stop it where it was started.") from error
    except ProcessLookupError as error:
        raise Refusal(409, "This job's process has just ended.") from error
