"""A job: its processes, checked and run one after another."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.process.BaseProcess import BaseProcess
from toolkit.config import JobConfig
from toolkit.errors import Interrupted, UserError
from toolkit.events import EventLog
from toolkit.extension import find_processes
from toolkit.lock import RunLock
from toolkit.stop import StopRequest

Status = Literal["done", "failed", "refused", "interrupted", "not started"]


@dataclass(frozen=True)
class JobResult:
    """How one job ended.

    Attributes:
        name: the job's.
        status: `refused` means that its check failed, before anything was loaded or written.
        seconds: how long it took.
        folders: the output folders of its processes.
    """

    name: str
    status: Status
    seconds: float
    folders: tuple[Path, ...]


class Job:
    """What one job file asks for."""

    def __init__(self, config: JobConfig) -> None:
        self.config = config

    @property
    def folders(self) -> tuple[Path, ...]:
        """The output folders of the processes."""
        return tuple(process.output_folder(self.config.name) for process in self.config.config.process)

    def processes(self) -> list[BaseProcess]:
        """The processes, built from the registry. This loads their code."""
        known = find_processes()
        return [
            known[entry.type].get_process()(index, self.config, entry)
            for index, entry in enumerate(self.config.config.process)
        ]

    def check(self) -> list[str]:
        """The plan of every process.

        Raises:
            UserError: one of them cannot work.
        """
        return [line for process in self.processes() for line in process.check()]

    def run(self, stop: StopRequest) -> JobResult:
        """Check and run every process, tell the user what goes wrong, and say how it ended.

        Raises:
            KeyboardInterrupt: asked to stop a second time; nothing has been saved.
        """
        started = time.monotonic()
        status = self._run(stop)
        return JobResult(self.config.name, status, time.monotonic() - started, self.folders)

    def _run(self, stop: StopRequest) -> Status:
        status: Status = "refused"
        try:
            processes = self.processes()
            for process in processes:
                for line in process.check():
                    print(self.config.redact(line))
            status = "failed"
            with _anomaly_detection():
                for process in processes:
                    self._run_process(process, stop)
        except UserError as error:
            print(self.config.redact(f"\n{error}"), file=sys.stderr)
            return status
        except Interrupted as reason:
            print(self.config.redact(f"\n{reason}"), file=sys.stderr)
            return "interrupted"
        except Exception:  # the next job may still work; this one's traceback is shown in full
            print(self.config.redact(f"\n{traceback.format_exc()}"), file=sys.stderr)
            return "failed"
        return "done"

    def _run_process(self, process: BaseProcess, stop: StopRequest) -> None:
        with RunLock(process.output_folder) as lock:
            if lock.notice:
                print(lock.notice)
            try:
                process.run(stop)
            except Exception as error:
                if not isinstance(error, Interrupted):
                    self._write_error(process.output_folder, error)
                raise

    def _write_error(self, folder: Path, error: Exception) -> None:
        message = self.config.redact(str(error))
        trace = "" if isinstance(error, UserError) else self.config.redact(traceback.format_exc())
        with contextlib.suppress(OSError), EventLog(folder / "events.jsonl") as events:  # a full disk, for one
            events.write("error", error=type(error).__name__, message=message, traceback=trace)


def run_jobs(jobs: Sequence[Job], stop: StopRequest, *, recover: bool) -> list[JobResult]:
    """Run jobs in order until one fails, or with `recover` all of them. A wish to stop ends the whole queue."""
    results: list[JobResult] = []
    for job in jobs:
        ended = bool(results) and results[-1].status != "done" and not recover
        if ended or stop.requested:
            results.append(JobResult(job.config.name, "not started", 0.0, job.folders))
            continue
        started = time.monotonic()
        try:
            results.append(job.run(stop))
        except KeyboardInterrupt:
            print("\nStopped at once. Nothing was saved since the last checkpoint.", file=sys.stderr)
            results.append(JobResult(job.config.name, "interrupted", time.monotonic() - started, job.folders))
    return results


def exit_code(results: Sequence[JobResult], stop: StopRequest) -> int:
    """0 all done, 1 one failed, 2 one was refused before anything was loaded, 130 stopped on request."""
    statuses = {result.status for result in results}
    if "failed" in statuses:
        return 1
    if "refused" in statuses:
        return 2
    return 130 if "interrupted" in statuses or stop.requested else 0


@contextlib.contextmanager
def _anomaly_detection() -> Iterator[None]:
    if os.environ.get("DEBUG_TOOLKIT") != "1":
        yield
        return
    import torch  # slow to import, and only a debugging session needs it here

    with torch.autograd.detect_anomaly():
        yield
