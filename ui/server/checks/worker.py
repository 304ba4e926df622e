"""A process that has loaded the model libraries, and checks one job after another until nobody has asked for a while.

The first check of a model's files spends most of its time on imports; those that follow find them done.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobs.check_json import job_facts
from jobs.job import Job
from toolkit.config import load_job
from toolkit.extension import REPOSITORY
from toolkit.train.resume import ResumeChoice

IDLE_S = 300.0
_PATIENCE_S = 60.0  # a second process would import for as long, and slow the first one down
_COMMAND = [sys.executable, "-m", "ui.server.checks.worker"]


class CheckWorker:
    """The process. It ends with the server, and after `idle_s` without a question."""

    def __init__(self, *, idle_s: float = IDLE_S) -> None:
        self.idle_s = idle_s
        self._room = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._goodbye: threading.Timer | None = None

    def facts(self, path: Path, options: dict[str, Any], *, timeout_s: float) -> dict[str, Any] | None:
        """What `job_facts` says about a job file; None if the process stays busy, or has failed.

        Args:
            path: of the job file.
            options: arguments of `check_file`.
            timeout_s: how long it may take.

        Raises:
            TimeoutError: it took longer.
        """
        if not self._room.acquire(timeout=_PATIENCE_S):
            return None
        try:
            return self._ask(json.dumps([str(path), options]), timeout_s)
        finally:
            self._room.release()

    def close(self) -> None:
        """End the process."""
        if self._goodbye is not None:
            self._goodbye.cancel()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _ask(self, question: str, timeout_s: float) -> dict[str, Any] | None:
        if self._goodbye is not None:
            self._goodbye.cancel()
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                _COMMAND,
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        process, started = self._process, time.monotonic()
        limit = threading.Timer(timeout_s, process.kill)
        limit.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(question + "\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self.close()
            if time.monotonic() - started >= timeout_s:
                raise TimeoutError from None
            return None
        finally:
            limit.cancel()
        self._goodbye = threading.Timer(self.idle_s, self._end_if_idle)
        self._goodbye.daemon = True
        self._goodbye.start()
        return found if isinstance(found, dict) else None

    def _end_if_idle(self) -> None:
        if self._room.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._room.release()


def check_file(
    path: Path, *, vram_gb: float | None, resume: Any, from_step: int | None, accept: bool
) -> dict[str, Any]:
    """The entry of a job in `run.py --check --json`.

    Raises:
        UserError: its file cannot be read.
    """
    config = load_job(path)
    job = Job(config, resume=ResumeChoice(resume, from_step, accept), vram_gb=vram_gb)
    return job_facts(config, list(job.checks()))


def serve() -> None:
    """Answer questions on stdin, each a line, until it is closed; null where the check has failed."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        facts = None
        with contextlib.suppress(Exception):  # who asked tries again in another way, and learns what is wrong
            path, options = json.loads(line)
            facts = check_file(Path(path), **options)
        answers.write(json.dumps(facts) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
