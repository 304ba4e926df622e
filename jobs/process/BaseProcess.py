"""The base class for entries of `process:` in a job file, which can be checked and run."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.config import JobConfig, ProcessConfig
from toolkit.output.run_record import RunRecord
from toolkit.runtime.stop import StopRequest


class BaseProcess:
    """The contract between a job and one of its processes; extensions subclass it.

    The job calls `check`, creates the process from the result, and calls `run` while it holds the lock of
    `output_folder`. If `run` raises an error, the job reports it to the user and in `events.jsonl`.

    Attributes:
        checked: the result of `check`.
        record: the run record of this start; None if none is kept, as on every rank but the first.
        works_in_ranks: whether several processes may run it together; if not, a job that is started so is refused.
    """

    works_in_ranks: ClassVar[bool] = False

    def __init__(self, checked: Checked, record: RunRecord | None = None) -> None:
        self.checked = checked
        self.record = record

    @property
    def job(self) -> JobConfig:
        """The whole job."""
        return self.checked.start.job

    @property
    def config(self) -> ProcessConfig:
        """The settings of this process."""
        return self.checked.start.config

    @property
    def output_folder(self) -> Path:
        """The folder for everything that this process writes."""
        return self.checked.start.output_folder

    @classmethod
    def check(cls, start: Start) -> Checked:
        """Check whether the process can work, without reading weights or writing anything.

        Returns:
            The plan of the process, or its problems.

        Raises:
            UserError: the process cannot work (JobError for several reasons). Same as returning a value with problems.
        """
        raise NotImplementedError

    def run(self, stop: StopRequest) -> None:
        """Do the work.

        Args:
            stop: polled between steps; when requested, save and raise Interrupted.

        Raises:
            UserError: the run failed for a reason that the user can fix.
            Interrupted: stopped on request, after saving everything worth keeping.
        """
        raise NotImplementedError
