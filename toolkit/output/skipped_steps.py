"""Steps that changed nothing because their loss or gradient was not finite: counted, reported and limited."""

from __future__ import annotations

import math
from collections.abc import Callable

MOST_IN_A_ROW = 10
_MOST_AT_THE_END = 2
_MOST_TOLD = 20
_ADVICE = (
    "training has diverged. A checkpoint of this step is saved; --from-step N goes back to an earlier one. Most likely "
    "causes: train.lr is too high, or train.max_grad_norm is 0; a number format that is too coarse (train.dtype fp16, "
    "model.qtype, model.compute); a damaged image, mask or caption, if the same file was named every time."
)


class SkippedSteps:
    """The steps whose gradient counted as zero; see `toolkit.optimizers.gradients.drop_if_broken`.

    Args:
        describe: says what a step was trained on, given the number of steps before it.
        warn: tells the user.
        most_in_a_row: how many in a row end the run.

    Attributes:
        count: how many there were since the start.
        problem: why the run must end; None while it may continue.
    """

    def __init__(
        self, describe: Callable[[int], str], warn: Callable[[str], None], *, most_in_a_row: int = MOST_IN_A_ROW
    ) -> None:
        self.count = 0
        self.problem: str | None = None
        self._describe = describe
        self._warn = warn
        self._most = most_in_a_row
        self._in_a_row = 0
        self._last = ""

    def see(self, step: int, loss: float, grad_norm: float) -> None:
        """Look at the result of step `step`, counted from 1."""
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self._in_a_row = 0
            return
        self.count += 1
        self._in_a_row += 1
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient has the norm {grad_norm}"
        if self.count <= _MOST_TOLD:
            last = " Further ones are counted but not reported." if self.count == _MOST_TOLD else ""
            self._warn(f"step {step} was skipped: its {what} ({self._describe(step - 1)}).{last}")
        self._last = f"The {what} in each of the last {self._in_a_row} steps, up to step {step}"
        if self._in_a_row >= self._most:
            self._give_up()

    def end(self) -> None:
        """All steps are made: a run whose last ones were skipped has not gone well."""
        if self._in_a_row >= _MOST_AT_THE_END:
            self._give_up()

    def _give_up(self) -> None:
        self.problem = self.problem or f"{self._last}: {_ADVICE}"

    def summary(self) -> str | None:
        """One line at the end of a run; None if nothing was skipped."""
        if not self.count:
            return None
        return f"{self.count} step{'s' if self.count > 1 else ''} skipped: loss or gradient not finite"
