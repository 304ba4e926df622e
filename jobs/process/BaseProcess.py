"""One entry of `process:` in a job file, as something that can be checked and run."""

from __future__ import annotations

from pathlib import Path

from toolkit.config import JobConfig, ProcessConfig
from toolkit.output.run_record import RunRecord
from toolkit.stop import StopRequest
from toolkit.train.resume import ResumeChoice


class BaseProcess:
    """The contract between a job and one of its processes; extensions subclass it.

    The job calls `check`, then `run` on the same object, so `run` may use what `check` has found. While `run` goes on
    the job holds the lock of `output_folder`; if `run` raises, the job says so to the user and in `events.jsonl`.

    Attributes:
        process_id: place in the job's list, from 0.
        job: the whole job.
        config: this entry.
        resume: where the user wants to go on from; set by the job.
        record: of this start, while `run` goes on; set by the job.
    """

    record: RunRecord | None = None

    def __init__(self, process_id: int, job: JobConfig, config: ProcessConfig) -> None:
        self.process_id = process_id
        self.job = job
        self.config = config
        self.resume = ResumeChoice()

    @property
    def output_folder(self) -> Path:
        """Where everything goes that this process writes."""
        return self.config.output_folder(self.job.name)

    def check(self) -> list[str]:
        """Find out, without reading weights or writing anything, whether this can work.

        Returns:
            The plan, line by line, as the user should read it.

        Raises:
            UserError: it cannot work; a JobError if there are several reasons.
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
