"""The steps of a run, with what is due between them, and the wish to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from toolkit.errors import Interrupted
from toolkit.parallel.ranks import Ranks
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Feeder
from toolkit.train.recorder import Recorder
from toolkit.train.step import Stepper
from toolkit.train.tasks.task import Ending, Task


@dataclass(frozen=True)
class Loop:
    """All parts of a run, ready for its first step.

    Attributes:
        feeder: makes the batches.
        stepper: learns from them.
        tasks: what is done between steps, in this order.
        recorder: keeps the figures.
        progress: the live line.
        ranks: the processes that run this loop together.
    """

    feeder: Feeder
    stepper: Stepper
    tasks: Sequence[Task]
    recorder: Recorder
    progress: Progress
    ranks: Ranks

    def run(self, start: int, num_steps: int, stop: StopRequest) -> None:
        """Make the steps from `start` (steps already done) to the last of `num_steps`.

        Raises:
            Interrupted: asked to stop; the tasks have been finished.
            UserError: the loss is no longer a number, or nothing can be saved.
        """
        self.progress.start(num_steps, start)
        had_work = [self._do(partial(task.begin, start, stop)) for task in self.tasks]
        if self.ranks.any(any(had_work) and stop.requested):
            raise Interrupted("Stopped before the first step.")
        for step in range(start, num_steps):
            result = self.stepper.train_step(step, self.feeder.batches(step))
            self.recorder.record(step + 1, result)
            if step + 1 < num_steps:
                self._after(step + 1, stop)
        self._finish(num_steps, Ending.COMPLETE if start < num_steps else Ending.NOTHING_LEFT, stop)

    def _after(self, step: int, stop: StopRequest) -> None:
        """What is due or wished for when `step` steps are done; the end of the run has its own."""
        stop.wishes.look()
        for task in self.tasks:
            is_wished = self.ranks.any(stop.wishes.take(task.wish))
            if is_wished or task.is_due(step):
                self._do(partial(task.run, step, stop))
        if self.ranks.any(stop.requested):
            self._finish(step, Ending.STOPPED, stop)
            raise Interrupted(f"Stopped after step {step} and saved. Start the same job again to go on from there.")

    def _finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        for task in self.tasks:
            self._do(partial(task.finish, step, ending, stop))

    def _do(self, work: Callable[[], bool | None]) -> bool:
        """Do a task's work while the clock stands still. The first rank does it, and the others wait."""
        self.recorder.flush()  # first: after a loss that is no number nothing is saved
        answer = bool(self.ranks.is_first and work())
        self.ranks.barrier()
        self.recorder.resume_clock()
        return answer
