"""The training loop: the steps, the tasks that are due between them, and requests to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch

from toolkit.errors import Interrupted, UserError
from toolkit.parallel.ranks import Ranks, done_by_first
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Feeder
from toolkit.train.recorder import Recorder
from toolkit.train.step import Stepper, StepResult
from toolkit.train.tasks.task import Ending, Task


@dataclass(frozen=True)
class Loop:
    """All parts of a run, ready for the first step.

    Attributes:
        feeder: builds the batches.
        stepper: trains on the batches.
        tasks: what is done between steps, in this order.
        recorder: logs losses and learning rates.
        progress: the live progress line.
        ranks: the processes that run this loop together.
    """

    feeder: Feeder
    stepper: Stepper
    tasks: Sequence[Task]
    recorder: Recorder
    progress: Progress
    ranks: Ranks

    def run(
        self, start: int, num_steps: int, stop: StopRequest, *, is_enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Train up to step `num_steps`.

        Args:
            start: number of steps already done.
            num_steps: number of steps of the whole run.
            stop: the user's request to stop.
            is_enough: asked after the tasks; True ends the run as if all steps were done.

        Raises:
            Interrupted: a stop was requested; the tasks have been finished.
            UserError: the loss has not been finite for many steps, or a checkpoint cannot be saved.
        """
        self.progress.start(num_steps, start)
        had_work = [self._do(task, partial(task.begin, start, stop)) for task in self.tasks]
        if self.ranks.any(any(had_work) and stop.requested):
            raise Interrupted("Stopped before the first step.")
        if is_enough():  # an earlier start has found so
            num_steps = start
        for step in range(start, num_steps):
            result = self._step(step)
            self.recorder.record(step + 1, result)
            if step + 1 < num_steps:
                self._after(step + 1, stop)
            if is_enough():
                num_steps = step + 1
                break
        self.recorder.flush()
        self.recorder.skipped.end()
        if self.recorder.skipped.problem is not None:
            self._give_up(num_steps, stop)
        self._finish(num_steps, Ending.COMPLETE if start < num_steps else Ending.NOTHING_LEFT, stop)
        if (summary := self.recorder.skipped.summary()) is not None:
            self.recorder.warn(summary)

    def _step(self, step: int) -> StepResult:
        batches, num_samples = self.feeder.batches(step), self.feeder.num_samples(step)
        is_joint = self.stepper.learner.sharing.is_joint
        try:
            with self.ranks.joint_step() if is_joint else nullcontext():
                return self.stepper.train_step(step, batches, num_samples=num_samples)
        except torch.OutOfMemoryError as error:
            self.recorder.flush()
            what = f"in step {step + 1}, with {self.feeder.describe(step)}"
            if not self.stepper.can_repeat:
                raise torch.OutOfMemoryError(f"It was {what}. {error}") from error
        self.recorder.warn(
            f"the card was full {what}. Its memory was cleared, and the step is being retried. If this happens again, "
            "make the run smaller: train.batch_size, the dataset's resolution, model.quantize or model.layer_offloading"
        )
        self.stepper.forget()
        try:
            return self.stepper.train_step(step, batches, num_samples=num_samples)
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(f"Now for the second time {what}. {error}") from error

    def _after(self, step: int, stop: StopRequest) -> None:
        """Run what is due or requested once `step` steps are done. The end of the run is handled by `_finish`."""
        stop.commands.look()
        commands = [stop.commands.take(task.command) for task in self.tasks]
        # asked once a step, and answered alike on all ranks
        must_flush, must_stop, *requested = self.ranks.any_of([self.recorder.is_due, stop.requested, *commands])
        if must_flush:
            self.recorder.flush_earlier()
        if self.recorder.skipped.problem is not None:
            self._give_up(step, stop)
        due = [task for task, is_asked in zip(self.tasks, requested, strict=True) if is_asked or task.is_due(step)]
        for task in due:
            self._do(task, partial(task.run, step, stop))
        if must_stop or (due and self.ranks.any(stop.requested)):
            self._finish(step, Ending.STOPPED, stop)
            raise Interrupted(f"Stopped after step {step} and saved. Start the same job again to resume from there.")

    def _give_up(self, step: int, stop: StopRequest) -> None:
        """Save, and end the run with the reason. Ranks see the same losses: all come here after the same step."""
        self._finish(step, Ending.STOPPED, stop)
        raise UserError(str(self.recorder.skipped.problem))

    def _finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        for task in self.tasks:
            self._do(task, partial(task.finish, step, ending, stop))

    def _do(self, task: Task, work: Callable[[], bool | None]) -> bool:
        """Do a task's work, which does not count as step time: on all ranks, or on the first while the others wait."""
        self.recorder.flush()
        self.stepper.require_equal_ranks()
        answer = bool(work() if task.is_for_all else done_by_first(self.ranks, work))
        self.recorder.resume_clock()
        return answer
