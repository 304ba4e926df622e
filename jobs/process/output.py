"""What a run tells while it goes on: its events, its progress, its stages, and the words for a full card."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.process.start import Start
from toolkit.files import write_text
from toolkit.output.events import EventLog
from toolkit.plan.memory_plan import Plan
from toolkit.plan.out_of_memory import explained
from toolkit.runtime.device_probe import find_device
from toolkit.runtime.progress import Progress
from toolkit.train.stages import Stages


@dataclass(frozen=True)
class Output:
    """Where the parts of a run report to.

    Attributes:
        folder: the output folder.
        events: `events.jsonl`.
        progress: the lines on the screen.
        stages: gives each stage its heading, and measures it.
        log_dir: for TensorBoard; None if the job asks for none.
    """

    folder: Path
    events: EventLog
    progress: Progress
    stages: Stages
    log_dir: Path | None


@contextmanager
def open_output(start: Start, plan: Plan | None, *, run: str | None = None) -> Iterator[Output]:
    """A `with` block that is one run. At its end each stage is reported, whichever way it ends.

    Args:
        start: of the run; its job file is written as it is carried out.
        plan: of the memory; None if there is none.
        run: the name of this start in `runs.jsonl`; None where nobody keeps that.

    Raises:
        UserError: the card was full, or the device is not there.
    """
    config, folder, redact = start.training, start.output_folder, start.job.redact
    log_dir = config.log_dir / f"{start.job.name}_{time.strftime('%Y%m%d-%H%M%S')}" if config.log_dir else None
    write_text(folder / "config.yaml", start.job.as_written())
    progress = Progress()
    with EventLog(folder / "events.jsonl") as events:
        events.write("job", run=run, name=start.job.name, arch=config.model.arch, steps=config.train.steps)
        stages = Stages(events, progress, redact=redact, predicted=plan.stage_peaks() if plan else {})
        try:
            with explained(plan, find_device(config.device), lambda: stages.current):
                yield Output(folder, events, progress, stages, log_dir)
        finally:
            progress.close()
            for line in stages.report():
                progress.message(line)
        events.write("done")
