"""What a run does between its steps: tasks, each of which knows when it is due. Saving and drawing samples are two."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from toolkit.config import SampleConfig, SaveConfig
from toolkit.files import is_disk_full
from toolkit.output.bundles import set_aside
from toolkit.runtime.control import Command
from toolkit.runtime.stop import StopRequest
from toolkit.train.resume import ResumePlan
from toolkit.train.stages import Stages
from toolkit.train.tasks.sampling import Sample, Sampler
from toolkit.train.tasks.saver import DiskFull, Saved, Saver, apply_retention


class Ending(Enum):
    """Why there is no further step."""

    COMPLETE = auto()  # this start made the last one
    NOTHING_LEFT = auto()  # an earlier start made them all
    STOPPED = auto()  # somebody asked for it


class Task(Protocol):
    """Something done between steps. A wish to stop makes it short: see each method.

    Attributes:
        wish: the command that asks for it, whether it is due or not; None: there is none.
    """

    wish: Command | None

    def begin(self, step: int, stop: StopRequest) -> bool:
        """Before the first step of this start, when `step` steps are done. Returns whether there was work to do."""
        ...

    def is_due(self, step: int) -> bool:
        """Whether it runs after `step` steps, unless they are the last."""
        ...

    def run(self, step: int, stop: StopRequest) -> None:
        """Do it, after `step` steps."""
        ...

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """After the last step, which is number `step`."""
        ...


class SaveTask:
    """Writes checkpoints, and tells the user of them."""

    wish: Command | None = "save"

    def __init__(self, saver: Saver, stages: Stages) -> None:
        self.saver = saver
        self.stages = stages

    def resume(self, plan: ResumePlan, num_steps: int) -> int:
        """Put back what the plan says, and move aside what will be written again.

        Args:
            plan: where to go on from.
            num_steps: of the whole job.

        Returns:
            The steps that are done.

        Raises:
            UserError: the checkpoint is of another job.
        """
        for line in plan.notices:
            self.stages.warn(line)
        if plan.bundle is not None:
            self.saver.restore(plan.bundle, with_optimizer=plan.keeps_optimizer)
            self.stages.tell(f"resuming from step {plan.step} ({plan.bundle.folder})")
        if plan.superseded:
            place = set_aside(self.saver.folder, plan.superseded, others=self.saver.final_files)
            steps = ", ".join(str(bundle.step) for bundle in plan.superseded)
            self.stages.warn(f"checkpoints of steps that will be written again ({steps}) were moved to {place}")
        if plan.step >= num_steps:
            self.stages.tell(f"all {num_steps} steps are done; raise train.steps to go on")
        return plan.step

    def begin(self, step: int, stop: StopRequest) -> bool:
        """See Task: nothing."""
        return False

    def is_due(self, step: int) -> bool:
        """See Task."""
        every = self.saver.config.save_every
        return bool(every) and step % every == 0

    def run(self, step: int, stop: StopRequest) -> None:
        """See Task.

        Raises:
            UserError: it cannot be saved, and the job does not say to train on.
        """
        try:
            self._save(self.saver.save_step, step)
        except DiskFull as error:
            if self.saver.config.on_disk_full == "stop" or stop.requested:
                raise
            self.stages.warn(f"{error} Training goes on, and the next checkpoint tries again.")

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """See Task: the final weights; of a run that was stopped, a checkpoint, unless this step has one."""
        if ending is not Ending.STOPPED:
            self._save(self.saver.save_final, step)
        elif self.saver.newest != step:
            self._save(self.saver.save_step, step)

    def _save(self, save: Callable[[int], Saved], step: int) -> None:
        with self.stages.progress.paused():
            saved = save(step)
        self.stages.progress.message(f"saved {saved.path}")
        self.stages.events.write(
            "checkpoint",
            state="written",
            path=saved.path.relative_to(self.saver.folder).as_posix(),
            step=step,
            bytes=saved.num_bytes,
            final=saved.is_final,
        )
        _tell_retention(self.saver.folder, saved.deleted, saved.complaint, self.stages)


def finish_retention(folder: Path, config: SaveConfig, step: int, stages: Stages) -> None:
    """Delete what is left to delete of a job that has saved its last step: it may have been killed just then."""
    deleted, complaint = apply_retention(folder, config, step, is_final=True)
    _tell_retention(folder, deleted, complaint, stages)


def _tell_retention(folder: Path, deleted: tuple[Path, ...], complaint: str | None, stages: Stages) -> None:
    for old in deleted:
        stages.events.write("checkpoint", state="deleted", path=old.relative_to(folder).as_posix())
    if deleted:
        names = ", ".join(path.relative_to(folder).as_posix() for path in deleted)
        stages.progress.message(f"deleted by retention: {names}")
    if complaint is not None:
        stages.warn(complaint)


class SampleTask:
    """Draws samples. A disk without room for them stops no training.

    Args:
        sampler: draws them.
        config: says when.
        stages: tells of them.
        is_first_skipped: none before the first step of a job.
        is_first_forced: some before the first step of each start.
    """

    wish: Command | None = "sample"

    def __init__(
        self, sampler: Sampler, config: SampleConfig, stages: Stages, *, is_first_skipped: bool, is_first_forced: bool
    ) -> None:
        self.sampler = sampler
        self.config = config
        self.stages = stages
        self.is_first_skipped = is_first_skipped
        self.is_first_forced = is_first_forced

    def begin(self, step: int, stop: StopRequest) -> bool:
        """See Task: the first samples."""
        if not self.is_first_forced and (step > 0 or self.is_first_skipped):
            return False
        self._draw(step, stop, first=True)
        return bool(self.sampler.settings.first_items)

    def is_due(self, step: int) -> bool:
        """See Task."""
        every = self.config.sample_every
        return (
            bool(every and self.sampler.settings.items) and step % every == 0 and step >= self.config.sample_start_step
        )

    def run(self, step: int, stop: StopRequest) -> None:
        """See Task. Who waits for the run to end does not wait for samples."""
        if not self.sampler.settings.items:
            self.stages.tell("no samples are drawn: the job has no prompts for them")
        elif not stop.requested:
            self._draw(step, stop)

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """See Task: the last samples, if anything was trained."""
        if ending is Ending.COMPLETE:
            self._draw(step, stop)

    def _draw(self, step: int, stop: StopRequest, *, first: bool = False) -> None:
        drawn: list[Sample] = []

        def tell(sample: Sample) -> None:
            drawn.append(sample)
            self._record(sample, step)

        try:
            with self.stages.progress.paused():
                self.sampler.draw(step, stop, first=first, drawn=tell)
        except OSError as error:
            if not is_disk_full(error):
                raise
            self.stages.warn(f"the disk is full: samples of step {step} could not be written ({error.filename})")
        if drawn:
            self.stages.progress.message(f"{len(drawn)} samples at step {step}: {self.sampler.folder}")

    def _record(self, sample: Sample, step: int) -> None:
        item = sample.item
        self.stages.events.write(
            "sample",
            path=sample.path.relative_to(self.sampler.folder.parent).as_posix(),
            step=step,
            index=sample.index,
            prompt=self.stages.redact(item.prompt),
            seed=item.seed,
            width=sample.width,
            height=sample.height,
            network_multiplier=item.network_multiplier,
        )
