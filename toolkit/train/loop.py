"""The steps of a run, with what happens between them: samples, checkpoints, the wish to stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.config import SaveConfig, TrainConfig
from toolkit.errors import Interrupted
from toolkit.files import is_disk_full
from toolkit.output.bundles import set_aside
from toolkit.stop import StopRequest
from toolkit.train.feeder import Feeder
from toolkit.train.recorder import Recorder
from toolkit.train.resume import ResumePlan
from toolkit.train.sampling import Sampler
from toolkit.train.saver import DiskFull, Saved, Saver
from toolkit.train.stages import Stages
from toolkit.train.step import Stepper


@dataclass(frozen=True)
class Loop:
    """All parts of a run, ready for its first step."""

    train: TrainConfig
    save: SaveConfig
    feeder: Feeder
    stepper: Stepper
    sampler: Sampler
    saver: Saver
    recorder: Recorder
    stages: Stages
    resume: ResumePlan

    def run(self, stop: StopRequest) -> Path:
        """Go on from where `resume` says to the last step.

        Returns:
            The final weights' file.

        Raises:
            Interrupted: asked to stop; a checkpoint has been saved.
            UserError: the checkpoint is of another job, the loss is no longer a number, or nothing can be saved.
        """
        start = self._resume()
        self.stages.progress.start(self.train.steps, start)
        is_sampled = self.train.force_first_sample or (start == 0 and not self.train.skip_first_sample)
        if is_sampled and self._draw(start, stop, first=True) and stop.requested:
            raise Interrupted("Stopped before the first step.")
        self.recorder.resume_clock()
        for step in range(start, self.train.steps):
            batches = self.feeder.batches(step, self.train.gradient_accumulation)
            result = self.stepper.train_step(step, batches)
            self.recorder.record(step + 1, result)
            self._after(step + 1, stop)
        self.recorder.flush()
        saved = self.saver.save_final(self.train.steps)
        self._tell_checkpoint(saved, self.train.steps)
        if start < self.train.steps:
            self._draw(self.train.steps, stop)
        return saved.path

    def _after(self, done: int, stop: StopRequest) -> None:
        """What is due when `done` steps are done; the end of the run has its own."""
        if done == self.train.steps:
            return
        is_due = bool(self.save.save_every) and done % self.save.save_every == 0
        if is_due:
            self._save(done, stop)
        if self.sampler.is_due(done) and not stop.requested:
            self._draw(done, stop)
        if stop.requested:
            if self.saver.newest != done:
                self._save(done, stop)
            raise Interrupted(f"Stopped after step {done} and saved. Start the same job again to go on from there.")

    def _resume(self) -> int:
        plan = self.resume
        for line in plan.notices:
            self.stages.warn(line)
        if plan.bundle is not None:
            self.saver.restore(plan.bundle, with_optimizer=plan.keeps_optimizer)
            self.stages.tell(f"resuming from step {plan.step} ({plan.bundle.folder})")
        if plan.superseded:
            place = set_aside(self.saver.folder, plan.superseded, others=self.saver.final_files)
            steps = ", ".join(str(bundle.step) for bundle in plan.superseded)
            self.stages.warn(f"checkpoints of steps that will be written again ({steps}) were moved to {place}")
        if plan.step >= self.train.steps:
            self.stages.tell(f"all {self.train.steps} steps are done; raise train.steps to go on")
        return plan.step

    def _save(self, step: int, stop: StopRequest) -> None:
        self.recorder.flush()
        try:
            with self.stages.progress.paused():
                saved = self.saver.save_step(step)
        except DiskFull as error:
            if self.save.on_disk_full == "stop" or stop.requested:
                raise
            self.stages.warn(f"{error} Training goes on, and the next checkpoint tries again.")
        else:
            self._tell_checkpoint(saved, step)
        self.recorder.resume_clock()

    def _tell_checkpoint(self, saved: Saved, step: int) -> None:
        self.stages.progress.message(f"saved {saved.path}")
        self.stages.events.write("checkpoint", state="written", path=str(saved.path), step=step)
        for old in saved.deleted:
            self.stages.events.write("checkpoint", state="deleted", path=str(old))
        if saved.complaint is not None:
            self.stages.warn(saved.complaint)

    def _draw(self, step: int, stop: StopRequest, *, first: bool = False) -> bool:
        """Draw samples. Returns whether there were any to draw."""
        self.recorder.flush()
        paths: list[Path] = []
        try:
            with self.stages.progress.paused():
                paths = self.sampler.draw(step, stop, first=first)
        except OSError as error:
            if not is_disk_full(error):
                raise
            self.stages.warn(f"the disk is full: samples of step {step} could not be written ({error.filename})")
        for path in paths:
            self.stages.events.write("sample", path=str(path), step=step)
        if paths:
            self.stages.progress.message(f"{len(paths)} samples at step {step}: {self.sampler.folder}")
        self.recorder.resume_clock()
        return bool(self.sampler.first_items if first else self.sampler.items)
