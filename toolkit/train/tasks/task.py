"""Tasks: what a run does between its steps, such as saving and drawing samples. Each task knows when it is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Literal, Protocol

from toolkit.config import SampleConfig, SaveConfig
from toolkit.files import is_disk_full
from toolkit.output.bundles import set_aside
from toolkit.parallel.ranks import RankFailed, Ranks, done_by_first
from toolkit.runtime.control import Command
from toolkit.runtime.stop import StopRequest
from toolkit.train.resume import ResumePlan
from toolkit.train.stages import Stages
from toolkit.train.tasks.sampling import Sample, Sampler
from toolkit.train.tasks.saver import DiskFull, Saved, Saver, apply_retention

Score = Callable[[int, Sequence[Sample], StopRequest], None]  # given the step, its samples, and a request to stop


class Ending(Enum):
    """Why the run ends."""

    COMPLETE = auto()  # this start did the last step
    NOTHING_LEFT = auto()  # an earlier start had done all steps
    STOPPED = auto()  # a stop was requested


class Task(Protocol):
    """Something done between steps. A request to stop cuts it short; see each method.

    Attributes:
        command: the command that runs it although it is not due; None if there is none.
        is_for_all: whether all ranks do its work together; otherwise the first does it while the others wait.
    """

    command: Command | None

    @property
    def is_for_all(self) -> bool:
        """See the class."""
        ...

    def begin(self, step: int, stop: StopRequest) -> bool:
        """Work before the first step of this start, with `step` steps done. Returns whether there was any."""
        ...

    def is_due(self, step: int) -> bool:
        """Whether the task should run after `step` steps. Not asked after the last step."""
        ...

    def run(self, step: int, stop: StopRequest) -> None:
        """Do the work that is due after `step` steps."""
        ...

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """Work at the end of the run, after `step` steps."""
        ...


class SaveTask:
    """Writes checkpoints and reports them to the user.

    Args:
        saver: writes the checkpoints.
        stages: reports them to the user.
        in_place: called before anything is written; raises FolderLost if the output folder is no longer the run's.
        epochs_done: the number of whole passes over the datasets after a number of steps.
    """

    command: Command | None = "save"

    def __init__(
        self,
        saver: Saver,
        stages: Stages,
        *,
        in_place: Callable[[], None] = lambda: None,
        epochs_done: Callable[[int], int] = lambda step: 0,
    ) -> None:
        self.epochs_done = epochs_done
        self.saver = saver
        self.stages = stages
        self.in_place = in_place

    @property
    def is_for_all(self) -> bool:
        """See Task. Where weights are spread over the ranks, none of them can write them alone."""
        return not self.saver.layout.is_whole

    def resume(self, plan: ResumePlan, num_steps: int, ranks: Ranks) -> int:
        """Restore the plan's bundle, and move aside the bundles that will be written again.

        Args:
            plan: the bundle to resume from, and the step to start at.
            num_steps: total number of steps of the job.
            ranks: the processes that resume together; only the first moves files.

        Returns:
            The number of steps already done.

        Raises:
            UserError: the checkpoint is from a job that trains other weights.
        """
        for line in plan.notices:
            self.stages.warn(line)
        if plan.bundle is not None:
            self.saver.restore(plan.bundle, with_optimizer=plan.keeps_optimizer)
            self.stages.info(f"resuming from step {plan.step} ({plan.bundle.folder})")
        if plan.superseded:
            superseded, final = plan.superseded, (*self.saver.final_files, *self.saver.best_files(after=plan.step))
            new_folder = done_by_first(ranks, lambda: set_aside(self.saver.folder, superseded, others=final))
            steps = ", ".join(str(bundle.step) for bundle in plan.superseded)
            self.stages.warn(f"checkpoints of steps that will be trained again ({steps}) were moved to {new_folder}")
        if plan.step >= num_steps:
            self.stages.info(f"all {num_steps} steps are done; raise train.steps to train further")
        return plan.step

    def begin(self, step: int, stop: StopRequest) -> bool:
        """See Task. There is nothing to do but to look at the clock."""
        if self.saver.config.save_every_minutes:
            stop.commands.repeat("save", 60 * self.saver.config.save_every_minutes)
        return False

    def is_due(self, step: int) -> bool:
        """See Task. What is due by the clock is a command instead, which the ranks agree on."""
        every, epochs = self.saver.config.save_every, self.saver.config.save_every_epochs
        if epochs and self.epochs_done(step) // epochs > self.epochs_done(step - 1) // epochs:
            return True
        return bool(every) and step % every == 0

    def run(self, step: int, stop: StopRequest) -> None:
        """See Task.

        Raises:
            UserError: the checkpoint cannot be saved, and the job does not ask to continue when the disk is full.
        """
        try:
            self._save(self.saver.save_step, step)
        except DiskFull as error:
            if self.saver.config.on_disk_full == "stop" or self.saver.layout.any(stop.requested):
                raise
            self.stages.warn(f"{error} Training continues, and saving is tried again at the next checkpoint.")

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """See Task. Saves the final weights; if the run was stopped, a checkpoint, unless this step has one."""
        if ending is not Ending.STOPPED:
            self._save(self.saver.save_final, step)
        elif self.saver.newest != step:
            self._save(self.saver.save_step, step)

    def _save(self, save: Callable[[int], Saved], step: int) -> None:
        self.in_place()
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
        _report_retention(self.saver.folder, saved.deleted, saved.complaint, self.stages)


def finish_retention(folder: Path, config: SaveConfig, step: int, stages: Stages) -> None:
    """Delete the old checkpoints of a job whose last step is saved: a kill may have come before they were deleted."""
    deleted, complaint = apply_retention(folder, config, step, is_final=True)
    _report_retention(folder, deleted, complaint, stages)


def _report_retention(folder: Path, deleted: tuple[Path, ...], complaint: str | None, stages: Stages) -> None:
    for old in deleted:
        stages.events.write("checkpoint", state="deleted", path=old.relative_to(folder).as_posix())
    if deleted:
        names = ", ".join(path.relative_to(folder).as_posix() for path in deleted)
        stages.progress.message(f"deleted by retention: {names}")
    if complaint is not None:
        stages.warn(complaint)


class SampleTask:
    """Draws samples; all ranks take part. A full disk does not stop the training.

    Args:
        sampler: draws the samples.
        config: the job's `sample` section, which says when to draw.
        stages: reports the samples to the user.
        first: whether to draw samples before the first step: of the job (`once`), of every start, or never.
        in_place: as in SaveTask.
        score: scores the samples of a round once it is complete, on the first rank; None to score nothing.
    """

    command: Command | None = "sample"
    is_for_all = True

    def __init__(
        self,
        sampler: Sampler,
        config: SampleConfig,
        stages: Stages,
        *,
        first: Literal["once", "always", "never"],
        in_place: Callable[[], None] = lambda: None,
        score: Score | None = None,
    ) -> None:
        self.sampler = sampler
        self.config = config
        self.stages = stages
        self.first = first
        self.in_place = in_place
        self.score = score

    def begin(self, step: int, stop: StopRequest) -> bool:
        """See Task. Draws the first samples."""
        if self.first == "never" or (self.first == "once" and step > 0):
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
        """See Task. Draws nothing once a stop is requested: samples must not delay it."""
        if not self.sampler.settings.items:
            self.stages.info("no samples are drawn: the job has no sample prompts")
        elif not self.sampler.crew.any(stop.requested):
            self._draw(step, stop)

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """See Task. Draws the last samples, if anything was trained."""
        if ending is Ending.COMPLETE:
            self._draw(step, stop)

    def _draw(self, step: int, stop: StopRequest, *, first: bool = False) -> None:
        drawn: list[Sample] = []
        self.in_place()

        def record(sample: Sample) -> None:
            drawn.append(sample)
            self._record(sample, step)

        is_whole = False
        try:
            with self.stages.progress.paused():
                self.sampler.draw(step, stop, first=first, drawn=record)
            settings = self.sampler.settings
            is_whole = 0 < len(drawn) == len(settings.first_items if first else settings.items)
        except (OSError, RankFailed) as error:
            if not self.sampler.crew.any(isinstance(error, OSError) and is_disk_full(error)):
                raise
            path = getattr(error, "filename", self.sampler.folder)
            self.stages.warn(f"the disk is full: samples of step {step} could not be written ({path})")
        if drawn:
            self.stages.progress.message(f"{len(drawn)} samples at step {step}: {self.sampler.folder}")
        if is_whole and (score := self.score) is not None:
            with self.stages.progress.paused():
                self.sampler.crew.by_first(lambda: score(step, drawn, stop))

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
