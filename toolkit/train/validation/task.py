"""The task that scores the grid between steps: reports figures, keeps the best weights, and warns of over-fitting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.runtime.control import Command
from toolkit.runtime.stop import StopRequest
from toolkit.train.recorder import Recorder
from toolkit.train.stages import Stages
from toolkit.train.tasks.saver import DiskFull
from toolkit.train.tasks.task import Ending
from toolkit.train.validation.figures import Interval
from toolkit.train.validation.grid import KINDS, Kind
from toolkit.train.validation.history import History, Round
from toolkit.train.validation.judge import Best, OverFit, best_of, gap, over_fit, rounds_without_gain
from toolkit.train.validation.scorer import Scorer
from toolkit.units import duration


class ValidateTask:
    """Scores the grid before the first step, every so many steps, and at the end; all ranks take part.

    Args:
        scorer: scores the grid.
        history: the rounds so far; part of every bundle.
        stages: reports to the user.
        recorder: takes the figures for TensorBoard.
        save_best: writes the weights of the best round, given its step and what they are to say about themselves, and
            returns their path; None if they are not kept.
        is_enough: whether the training ends here, for want of better rounds.
    """

    command: Command | None = None
    is_for_all = True

    def __init__(
        self,
        scorer: Scorer,
        history: History,
        stages: Stages,
        recorder: Recorder,
        save_best: Callable[[int, Mapping[str, Any]], Path] | None,
        is_enough: Callable[[], bool],
    ) -> None:
        self.scorer = scorer
        self.history = history
        self.stages = stages
        self.recorder = recorder
        self.save_best = save_best
        self.is_enough = is_enough
        self._is_warned = False

    def begin(self, step: int, stop: StopRequest) -> bool:
        """See Task. Scores the base model, unless the bundle knows what it scored, and the round of this step."""
        self._is_warned = over_fit(self.history) is not None
        if self.history.is_other:
            self.stages.warn(
                "validation: its images, prompts or noise levels have changed, so earlier rounds are discarded"
            )
        with self.stages.progress.paused():
            is_complete = self._has_base(step, stop)
        if not is_complete:
            return True
        if not self.history.has(step) and step % self.scorer.grid.every == 0:
            self._round(step, stop)
        return True

    def _has_base(self, step: int, stop: StopRequest) -> bool:
        """Make sure of the base model's scores and tracks. False if a stop was requested."""
        history, scorer = self.history, self.scorer
        if history.base is not None:
            if (is_there := scorer.restore(stop)) is None:
                return False
            if is_there:
                return True
        began = time.monotonic()
        if (base := scorer.base(stop)) is None:
            return False
        base_s = time.monotonic() - began
        self.stages.info(
            f"validation: scoring the base model took {duration(base_s)}; a round takes about "
            f"{duration(scorer.grid.round_share * base_s)}"
        )
        history.restart(base, 0 if scorer.has_base else step)
        if history.base_step:
            self.stages.warn(
                f"validation: the scores from before step 1 are lost, so changes are relative to step {step}"
            )
        return True

    def is_due(self, step: int) -> bool:
        """See Task."""
        return step % self.scorer.grid.every == 0

    def run(self, step: int, stop: StopRequest) -> None:
        """See Task. A stop must not wait for a round: it is made when the run resumes."""
        self._round(step, stop)

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        """See Task. Scores the last weights, and says which were the best."""
        if ending is Ending.STOPPED:
            return
        if not self.history.has(step):
            self._round(step, stop)
        for line in self._summary():
            self.stages.info(line)

    def _round(self, step: int, stop: StopRequest) -> None:
        began = time.monotonic()
        with self.stages.progress.paused():
            scores = self.scorer.score(stop)
        if scores is None:
            return
        self._report(self.history.add(step, scores), seconds=time.monotonic() - began)
        if self.is_enough():
            self.stages.info(
                f"validation: no better round in {rounds_without_gain(self.history)}: the training ends here"
            )

    def _report(self, scored: Round, *, seconds: float) -> None:
        history, best = self.history, best_of(self.history)
        figures, opened = history.figures(scored), gap(history, scored)
        unseen = history.grid.unseen
        took = {"seconds": round(seconds, 3), "passes": history.grid.passes}
        fields: dict[str, Any] = {"step": scored.step, "figures": figures, **took}
        if opened is not None:
            fields["gap"] = opened.as_json()
        if best is not None:
            fields["best"] = {"figure": unseen, "step": best.step, **best.figure.as_json(), "alike": list(best.alike)}
        said = [_said(history, scored, kind) for kind in history.grid.kinds]
        self.stages.progress.message(f"validation at step {scored.step}: {', '.join(said)}")
        self.stages.events.write("validation", **fields)
        self.recorder.add(scored.step, {f"val/{kind}": one["mean"] for kind, one in figures.items()})
        if self.save_best is not None and best is not None and best.step == scored.step > 0:
            self._keep(best, str(unseen))
        found = over_fit(history)
        if found is not None and not self._is_warned:
            assert unseen is not None
            self.stages.warn(_over_fit_line(found, KINDS[unseen]))
        self._is_warned = found is not None

    def _keep(self, best: Best, figure: str) -> None:
        assert self.save_best is not None
        try:
            path = self.save_best(best.step, {"figure": figure, "step": best.step, **best.figure.as_json()})
        except DiskFull as error:
            self.stages.warn(f"the best weights so far could not be saved: {error}")
            return
        self.stages.progress.message(f"best so far: {path}")
        self.stages.events.write("checkpoint", state="best", path=path.name, step=best.step)

    def _summary(self) -> list[str]:
        history, best = self.history, best_of(self.history)
        if best is None or history.grid.unseen is None:
            return []
        return [_best_line(best, KINDS[history.grid.unseen])]


def _said(history: History, scored: Round, kind: Kind) -> str:
    found = Interval.of(history.changes(kind, scored))
    if kind != "preserved":
        return f"{KINDS[kind]} {found.as_ratio()}"
    return f"{KINDS[kind]} moved by {found.mean:.2%}" + ("" if found.half is None else f" ± {found.half:.2%}")


def _over_fit_line(found: OverFit, kind: str) -> str:
    since = "before the first step" if found.since == 0 else f"at step {found.since}"
    return (
        f"over-fitting: {kind} were best {since}. Since then their error has changed by {found.worse.as_ratio()}, and "
        f"relative to that of the training images by {found.opened.as_ratio()}. Stop here, use the weights of that "
        "step, or lower train.lr; more images help most"
    )


def _best_line(best: Best, kind: str) -> str:
    alike = f"; steps {', '.join(map(str, best.alike))} not significantly different from it" if best.alike else ""
    if best.step == 0:
        return f"validation: no round is better than the base model, by the error on {kind}{alike}"
    return f"validation: best at step {best.step}, by the error on {kind}: {best.figure.as_ratio()}{alike}"
