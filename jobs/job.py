"""A job: its processes, checked and run one after another."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.process.checked import Checked
from jobs.process.start import Start
from jobs.run_report import report_at_end
from toolkit.config import JobConfig, ProcessConfig
from toolkit.config.reading.installed import find_processes
from toolkit.errors import Interrupted, UserError
from toolkit.files import is_disk_full, sha256_json
from toolkit.output.alive import this_process
from toolkit.output.bundles import newest_bundle
from toolkit.output.disk import free_bytes
from toolkit.output.events import EventLog, append_event
from toolkit.output.lock import FolderInUse, FolderLost, RunLock, holder
from toolkit.output.run_record import EXIT_CODES, RunRecord, start_name, write_end
from toolkit.parallel.agreement import OfAllRanks
from toolkit.parallel.board import Fate
from toolkit.parallel.ranks import RankFailed, Ranks, done_by_first, find_ranks, first_complaint, is_lost_connection
from toolkit.runtime.environment import git_commit, versions
from toolkit.runtime.stop import StopRequest
from toolkit.runtime.watch import Watch
from toolkit.train.resume import ResumeChoice

Status = Literal["done", "failed", "refused", "interrupted", "not started"]


@dataclass(frozen=True)
class JobResult:
    """The outcome of one job.

    Attributes:
        name: the job's name.
        status: how the job ended; `refused` means that its check failed before anything was loaded or written.
        seconds: how long the job took.
        folders: the output folders of the job's processes.
    """

    name: str
    status: Status
    seconds: float
    folders: tuple[Path, ...]


class Job:
    """One job: what a job file asks for, and how the user started it.

    Attributes:
        config: the settings in the job file.
        resume: what the user wants to resume from.
        command: command that continues the job after it has ended, for messages.
        vram_gb: plan for a card of this many GB; None for this machine.
        ranks: the processes that run the job together. The first holds the folder's lock and keeps the run record.
    """

    def __init__(
        self,
        config: JobConfig,
        *,
        resume: ResumeChoice | None = None,
        command: str = "",
        vram_gb: float | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.resume = resume or ResumeChoice()
        self.command = command or f"python run.py {config.path}"
        self.vram_gb = vram_gb
        self.ranks = ranks or find_ranks()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The output folders of the job's processes."""
        return tuple(process.output_folder(self.config.name) for process in self.config.config.process)

    def checks(self) -> Iterator[Checked]:
        """Check the processes one after another."""
        for index, entry in enumerate(self.config.config.process):
            start = Start(self.config, index, entry, self.resume, self.vram_gb, self.ranks)
            try:
                checked: Checked = find_processes()[entry.type].extension.get_check()(start)
            except UserError as error:
                checked = Checked(start).refused(error)
            yield checked

    def check(self) -> list[str]:
        """Check every process, and return their plans as lines for the user.

        Raises:
            UserError: one of the processes cannot work.
        """
        checks = list(self.checks())
        if refusal := _refusal(checks):
            raise UserError(refusal)
        return [line for checked in checks for line in checked.lines]

    def run(self, stop: StopRequest) -> JobResult:
        """Check and run every process, and report errors to the user. Returns how the job ended.

        Raises:
            KeyboardInterrupt: a stop was requested a second time; nothing has been saved.
        """
        started = time.monotonic()
        status = self._run(stop)
        return JobResult(self.config.name, status, time.monotonic() - started, self.folders)

    def _run(self, stop: StopRequest) -> Status:
        status: Status = "refused"
        since_ns = time.time_ns()
        try:
            checks = self._checked()
            if checks is None:
                return "refused"
            status = "failed"
            with _anomaly_detection():
                for checked in checks:
                    self._run_process(checked, stop, since_ns)
        except Interrupted as reason:
            self._end_all_stopped(reason)
            self._print_error(str(reason))
            return "interrupted"
        except Exception as error:  # the next job may still work; our own bugs are shown with a traceback
            text, is_effect = _explained(error), isinstance(error, RankFailed) or is_lost_connection(error)
            if isinstance(error, FolderLost):
                self.ranks.before_end(lambda fate: [])  # where it was, it cannot continue
            is_common = isinstance(error, OfAllRanks)
            told = self.config.redact(text)
            self.ranks.end_all(told, EXIT_CODES["failed"], is_effect=is_effect, is_common=is_common)
            self._print_error(text)
            if status == "failed" and not isinstance(error, FolderInUse | FolderLost):
                self._print_error("\n".join(self.resume_hint(error)))
            return status if isinstance(error, UserError) else "failed"
        return "done"

    def _checked(self) -> list[Checked] | None:
        """Check the processes; None if one of them cannot work, which has then been reported to the user."""
        run = start_name(this_process())
        # Nothing is locked yet. A folder without a log is left alone: a refused start must leave no trace.
        free = (folder for folder in dict.fromkeys(self.folders) if holder(folder) is None)
        logged = list(free) if self.ranks.is_first else []
        for folder in logged:
            append_event(folder / "events.jsonl", "stage", name="check", state="started", run=run)
        checks: list[Checked] = []
        started = time.monotonic()
        ending: dict[str, Any] = {"status": "failed"}
        try:
            for checked in self.checks():
                checks.append(checked)
                for line in () if _refusal(checks) else checked.lines:
                    print(self.config.redact(line))
            if refusal := first_complaint(self.ranks, _refusal(checks)):
                self._print_error(refusal)
                ending = {"status": "refused", "error": self.config.redact(refusal)}
                return None
            ending = {}
        except KeyboardInterrupt:
            ending = {"status": "stopped at once"}
            raise
        finally:
            took = round(time.monotonic() - started, 2)
            for folder in logged:
                append_event(folder / "events.jsonl", "stage", name="check", state="done", run=run, duration_s=took)
                if ending:
                    write_end(folder, run, **ending)
        return checks

    def _run_process(self, checked: Checked, stop: StopRequest, since_ns: int) -> None:
        process = find_processes()[checked.start.config.type].extension.get_process()
        if self.ranks.world > 1 and not process.works_in_ranks:
            kind = checked.start.config.type
            raise OfAllRanks(f"type: {kind} works in a single process, but {self.ranks.world} ranks were started.")
        with contextlib.ExitStack() as stack:
            recorded = self._recorded(checked.start, stop, since_ns)
            # nobody touches the folder before the first rank has its lock
            record = done_by_first(self.ranks, lambda: stack.enter_context(recorded))
            self.ranks.before_end(lambda fate: self._last_words(fate, record, stack))
            try:
                process(checked, record).run(stop)
            except Interrupted as reason:  # before it is written down: another rank may have a better reason
                self._end_all_stopped(reason)
                raise

    def _last_words(self, fate: Fate, record: RunRecord | None, stack: contextlib.ExitStack) -> list[str]:
        """Write down why all ranks end, and release the folder, on the first. Returns how to continue."""
        lines = self.resume_hint()
        if record is not None:
            record.ends("failed" if fate.code == EXIT_CODES["failed"] else "interrupted", error=fate.text)
            record.close()
        stack.close()
        return lines

    def _end_all_stopped(self, reason: Interrupted) -> None:
        """End all ranks, if there are several: either all were asked to stop, or one after another has failed."""
        told = self.config.redact(str(reason))
        self.ranks.end_all(told, EXIT_CODES["interrupted"], is_effect=True, is_common=True)

    @contextlib.contextmanager
    def _recorded(self, start: Start, stop: StopRequest, since_ns: int) -> Iterator[RunRecord]:
        """For the length of a `with` block this run has its folder for itself; how it ends is written down there."""
        config, folder = start.config, start.output_folder
        with RunLock(folder) as lock:
            if lock.notice:
                print(lock.notice)
            facts = self._start_facts(config)
            with (
                report_at_end(folder, self.config.config.process[start.process_id]),
                RunRecord(folder, facts, in_place=lock.must_be_in_place) as record,
                Watch(folder, stop, since_ns=since_ns),
            ):
                try:
                    yield record
                except Interrupted as reason:
                    record.ends("interrupted", error=str(reason))
                    raise
                except KeyboardInterrupt:
                    record.ends("stopped at once")
                    raise
                except FolderLost:  # the log of that name, if there is one, is another run's
                    raise
                except Exception as error:
                    record.ends("failed", error=self.config.redact(f"{type(error).__name__}: {error}"))
                    self._write_error(folder, error)
                    raise
                record.ends("done")

    def _start_facts(self, process: ProcessConfig) -> dict[str, Any]:
        config = self.config.redacted(process.model_dump(mode="json"))
        return {
            "job": self.config.name,
            "command": self.config.redact(shlex.join(sys.argv)),
            "commit": git_commit(),
            "versions": versions(),
            **process.run_facts(),
            "config_hash": sha256_json(config),
        }

    def resume_hint(self, error: BaseException | None = None) -> list[str]:
        """Lines for the user after a run has failed: which checkpoint is intact, and how to continue."""
        lines = []
        for process in self.config.config.process:
            folder = process.output_folder(self.config.name)
            if not process.keeps_checkpoints:
                lines.append(f"The run in {folder} has stopped.")
                continue
            bundle, _ = newest_bundle(folder, is_thorough=False)
            what = f"its checkpoint of step {bundle.step} is intact" if bundle else "it has no checkpoint yet"
            lines.append(f"The run in {folder} has stopped; {what}.")
        if self.ranks.world > 1:
            return [*lines, "To continue, start all ranks again, or fewer or more of them."]
        is_fixable = isinstance(error, UserError) or (error is not None and is_disk_full(error))
        hint = "Once that is fixed, continue with" if is_fixable else "To continue, run"
        return [*lines, f"{hint}:  {self.command}"]

    def _print_error(self, text: str) -> None:
        print(self.config.redact(f"\n{text}"), file=sys.stderr)

    def _write_error(self, folder: Path, error: Exception) -> None:
        message = self.config.redact(str(error))
        trace = "" if isinstance(error, UserError) else self.config.redact(traceback.format_exc())
        with contextlib.suppress(OSError), EventLog(folder / "events.jsonl") as events:  # such as a full disk
            events.write("error", error=type(error).__name__, message=message, traceback=trace)


def _refusal(checks: Sequence[Checked]) -> str:
    """Why a job cannot work, as one text; empty if it can."""
    return "\n\n".join(checked.refusal for checked in checks if checked.problems)


def _explained(error: Exception) -> str:
    """The text to print for an error. Must be called while the error is being handled."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and is_disk_full(error):
        path = Path(os.fsdecode(error.filename or "."))
        return f"{path}: cannot be written: the disk is full ({free_bytes(path):,} bytes are free). Free disk space."
    return traceback.format_exc()


@contextlib.contextmanager
def _anomaly_detection() -> Iterator[None]:
    if os.environ.get("DEBUG_TOOLKIT") != "1":
        yield
        return
    import torch  # slow to import, and only a debugging session needs it here

    with torch.autograd.detect_anomaly():
        yield
