"""One entry of `process:` in a job file, as something that can be checked and run."""

from __future__ import annotations

from pathlib import Path

from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.config import JobConfig, ProcessConfig
from toolkit.output.run_record import RunRecord
from toolkit.runtime.stop import StopRequest


class BaseProcess:
    """The contract between a job and one of its processes; extensions subclass it.

    The job calls `check`, makes the process from what that has found, and calls `run`. Meanwhile the job holds the lock
    of `output_folder`; if `run` raises, the job says so to the user and in `events.jsonl`.

    Attributes:
        checked: what `check` has found.
        record: of this start; None where nobody keeps one, as in processes other than the first of several.
    """

    def __init__(self, checked: Checked, record: RunRecord | None = None) -> None:
        self.checked = checked
        self.record = record

    @property
    def job(self) -> JobConfig:
        """The whole job."""
        return self.checked.start.job

    @property
    def config(self) -> ProcessConfig:
        """This entry."""
        return self.checked.start.config

    @property
    def output_folder(self) -> Path:
        """Where everything goes that this process writes."""
        return self.checked.start.output_folder

    @classmethod
    def check(cls, start: Start) -> Checked:
        """Find out, without reading weights or writing anything, whether this can work.

        Returns:
            The plan, or the problems.

        Raises:
            UserError: it cannot work; a JobError if there are several reasons. The same as a value with problems.
        """
        raise NotImplementedError

    def run(self, stop: StopRequest) -> None:
        """Do the work.

        Args:
            stop: polled between steps; when requested, save and raise Interrupted.

        Raises:
            UserError: something the user gave or can mend stands in the way.
            Interrupted: stopped on request, with everything worth keeping saved.
        """
        raise NotImplementedError
