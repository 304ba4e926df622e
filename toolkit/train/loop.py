"""The steps of a run, with what happens between them: samples, checkpoints, the wish to stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.config import SaveConfig, TrainConfig
from toolkit.errors import Interrupted
from toolkit.stop import StopRequest
from toolkit.train.feeder import Feeder
from toolkit.train.recorder import Recorder
from toolkit.train.sampling import Sampler
from toolkit.train.saver import Saver
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

    def run(self, stop: StopRequest) -> Path:
        """Go on from the newest checkpoint to the last step.

        Returns:
            The final weights' file.

        Raises:
            Interrupted: asked to stop; a checkpoint has been saved.
            UserError: the checkpoint is of another job, or the loss is no longer a number.
        """
        start = self._resume()
        self.stages.progress.start(self.train.steps, start)
        if self.train.force_first_sample or (start == 0 and not self.train.skip_first_sample):
            self._draw(start, first=True)
        self.recorder.resume_clock()
        for step in range(start, self.train.steps):
            batches = self.feeder.batches(step, self.train.gradient_accumulation)
            result = self.stepper.train_step(step, batches)
            self.recorder.record(step + 1, result)
            self._after(step + 1, stop)
        self.recorder.flush()
        path = self.saver.save_final(self.train.steps)
        self._tell_checkpoint(path, self.train.steps)
        if start < self.train.steps:
            self._draw(self.train.steps)
        return path

    def _after(self, done: int, stop: StopRequest) -> None:
        """What is due when `done` steps are done; the end of the run has its own."""
        if done == self.train.steps:
            return
        saves = self.save.save_every and done % self.save.save_every == 0
        if saves or stop.requested:
            self._save(done)
        if stop.requested:
            raise Interrupted(f"Stopped after step {done} and saved. Start the same job again to go on from there.")
        if self.sampler.is_due(done):
            self._draw(done)

    def _resume(self) -> int:
        bundle, passed_over = self.saver.resume()
        for line in passed_over:
            self.stages.warn(line)
        if bundle is None:
            return 0
        self.stages.tell(f"resuming from step {bundle.step} ({bundle.folder})")
        if bundle.step >= self.train.steps:
            self.stages.tell(f"all {self.train.steps} steps are done; raise train.steps to go on")
        return bundle.step

    def _save(self, step: int) -> None:
        self.recorder.flush()
        with self.stages.progress.paused():
            path, deleted = self.saver.save_step(step)
        self._tell_checkpoint(path, step)
        for old in deleted:
            self.stages.events.write("checkpoint", state="deleted", path=str(old))
        self.recorder.resume_clock()

    def _tell_checkpoint(self, path: Path, step: int) -> None:
        self.stages.progress.message(f"saved {path}")
        self.stages.events.write("checkpoint", state="written", path=str(path), step=step)

    def _draw(self, step: int, *, first: bool = False) -> None:
        self.recorder.flush()
        with self.stages.progress.paused():
            paths = self.sampler.draw(step, first=first)
        for path in paths:
            self.stages.events.write("sample", path=str(path), step=step)
        if paths:
            self.stages.progress.message(f"{len(paths)} samples at step {step}: {self.sampler.folder}")
        self.recorder.resume_clock()
