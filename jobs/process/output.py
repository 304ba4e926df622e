"""The outputs of a run while it is running: events, progress, stages, and the message if the card is full.

Of several processes only the first writes and prints. The others get the same parts, but write no events, and what
they would print goes to `log.rank1.txt` and so on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.process.start import Start
from toolkit.files import write_text
from toolkit.output.events import EventLog, SilentLog
from toolkit.output.lock import FolderLost
from toolkit.output.run_record import EXIT_CODES, RunRecord
from toolkit.output.trackers import Tracked, tracking
from toolkit.plan.memory_plan import Plan
from toolkit.plan.out_of_memory import explain_out_of_memory
from toolkit.runtime.progress import Progress
from toolkit.train.stages import Stages


@dataclass(frozen=True)
class Output:
    """What the parts of a run report to.

    Attributes:
        folder: the job's output folder.
        events: the event log, `events.jsonl`.
        progress: the lines on the screen.
        stages: prints a heading for each stage, and measures it.
        log_dir: folder for TensorBoard logs; None if the job does not ask for them, or on every rank but the first.
    """

    folder: Path
    events: EventLog
    progress: Progress
    stages: Stages
    log_dir: Path | None

    def must_be_in_place(self, record: RunRecord) -> None:
        """Raise FolderLost if the folder is no longer the run's, and log it, wherever the log is now."""
        try:
            record.in_place()
        except FolderLost as lost:
            error = type(lost).__name__
            self.events.write("error", error=error, message=self.stages.redact(str(lost)), traceback="")
            message, code = self.stages.redact(f"{error}: {lost}"), EXIT_CODES["failed"]
            self.events.write("end", run=record.run, status="failed", exit_code=code, step=None, error=message)
            raise


@contextmanager
def open_output(start: Start, plan: Plan | None, *, run: str | None = None) -> Iterator[Output]:
    """Open the outputs of one run for the `with` block. A report on each stage is printed however the block ends.

    Args:
        start: the start of the run; its effective settings are written to `config.yaml`.
        plan: the memory plan; None if there is none.
        run: the name of this start in `runs.jsonl`; None if there is no such record.

    Raises:
        UserError: the card ran out of memory, or the device is not available.
    """
    config, folder, redact = start.training, start.output_folder, start.job.redact
    with ExitStack() as stack:
        log_dir = None
        if start.ranks.is_first:
            write_text(folder / "config.yaml", start.job.as_written())
            events, progress = stack.enter_context(EventLog(folder / "events.jsonl")), Progress()
            if config.log_dir:
                log_dir = config.log_dir / f"{start.job.name}_{time.strftime('%Y%m%d-%H%M%S')}"
        else:
            own = folder / f"log.rank{start.ranks.rank}.txt"
            own.parent.mkdir(parents=True, exist_ok=True)  # on another machine there may be no such folder
            text = stack.enter_context(own.open("a", encoding="utf-8", errors="backslashreplace", buffering=1))
            events, progress = SilentLog(), Progress(text)
        events.write("job", run=run, name=start.job.name, arch=config.model.arch, steps=config.train.steps)
        stages = Stages(events, progress, redact=redact, predicted=plan.stage_peaks() if plan else {})
        try:
            if start.ranks.is_first and (names := config.logging.trackers):
                events.listeners.append(stack.enter_context(tracking(names, _tracked(start), stages.warn)))
            with explain_out_of_memory(plan, start.find_device(), lambda: stages.current):
                yield Output(folder, events, progress, stages, log_dir)
        finally:
            progress.close()
            for line in stages.report():
                progress.message(line)
        events.write("done")


def _tracked(start: Start) -> Tracked:
    logging, name = start.training.logging, start.job.name
    config = start.job.redacted(start.training.model_dump(mode="json"))
    return Tracked(logging.project_name, logging.run_name or name, name, config, start.output_folder)
