"""The rounds of a run: the scores of every subject at every noise level, as a bundle keeps them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from toolkit.config.validation.settings import BANDS, band_of
from toolkit.json_files import read_json
from toolkit.output.bundles import Bundle
from toolkit.train.validation.figures import Interval
from toolkit.train.validation.grid import Grid, Kind

Scores = Sequence[Sequence[float]]
"""A row for each subject of the grid, a number for each noise level."""

VALIDATION = "validation"  # the document of a bundle with the rounds so far
_LEAST = 1e-12  # of an error, whose logarithm is taken


@dataclass(frozen=True)
class Round:
    """What the weights of a step scored."""

    step: int
    scores: Scores


@dataclass
class History:
    """The scores of the base model and of all rounds so far, in order.

    The unit is an image in a noise band: levels next to each other rise and fall together, so that they are no more
    than one observation.

    Attributes:
        grid: the subjects and noise levels that were scored.
        base: the scores of the base model; None before they are known.
        base_step: the step whose weights are the base; 0 unless the scores of a full fine-tune were lost.
        rounds: the rounds, by step.
        is_other: whether the run has rounds of another grid, which these cannot be compared with.
    """

    grid: Grid
    base: Scores | None = None
    base_step: int = 0
    rounds: list[Round] = field(default_factory=list)
    is_other: bool = False

    @classmethod
    def resumed(cls, grid: Grid, bundle: Bundle | None) -> Self:
        """The history that a bundle keeps; empty if it has none, or one of another grid.

        Args:
            grid: the grid of this run.
            bundle: what the run resumes from, checked; None if it starts from scratch.
        """
        path = None if bundle is None else bundle.folder / f"{VALIDATION}.json"
        saved = read_json(path) if bundle is not None and path in bundle.files else {}
        if saved.get("grid") != grid.key:
            return cls(grid, is_other=bool(saved))
        rounds = [Round(one["step"], one["scores"]) for one in saved["rounds"]]
        return cls(grid, saved["base"], saved["base_step"], rounds)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; floats are written so that they are read again exactly."""
        rounds = [{"step": one.step, "scores": one.scores} for one in self.rounds]
        return {"grid": self.grid.key, "base": self.base, "base_step": self.base_step, "rounds": rounds}

    def restart(self, base: Scores, step: int) -> None:
        """Start over, with the scores of the base model, which are those of a step if it cannot be had otherwise."""
        self.base, self.base_step = base, step
        self.rounds.clear()

    def add(self, step: int, scores: Scores) -> Round:
        """Add a round."""
        self.rounds.append(Round(step, scores))
        return self.rounds[-1]

    def has(self, step: int) -> bool:
        """Whether the weights of a step were scored."""
        return any(one.step == step for one in self.rounds)

    def changes(self, kind: Kind, scored: Round, *, band: int | None = None, since: Round | None = None) -> list[float]:
        """How the scores of a kind have changed: a number for each image and noise band, or for each prompt.

        Of images it is the logarithm of the ratio of errors, so that -0.1 means 10 % less, whatever the size of the
        error; of prompts without the trigger word the difference.

        Args:
            kind: which subjects.
            scored: the round.
            band: see `band_of`; None: all of them.
            since: the round that it is compared with; None: the base model.
        """
        assert self.base is not None, "the base model is scored before the first round"
        before = self.base if since is None else since.scores
        found: list[float] = []
        for subject, now, was in zip(self.grid.subjects, scored.scores, before, strict=True):
            if subject.kind != kind:
                continue
            if kind == "preserved":
                found.append(statistics.fmean(now) - statistics.fmean(was))
                continue
            for columns in self._columns(band):
                found.append(statistics.fmean(_log_ratio(now[index], was[index]) for index in columns))
        return found

    def _columns(self, band: int | None) -> list[list[int]]:
        """For each noise band that has any, the indices of its noise levels."""
        found: dict[int, list[int]] = {}
        for index, sigma in enumerate(self.grid.sigmas):
            found.setdefault(band_of(sigma), []).append(index)
        return [columns for one, columns in found.items() if band is None or one == band]

    def figures(self, scored: Round) -> dict[str, dict[str, Any]]:
        """For each kind: the mean change since the base model with its interval, overall and in each noise band.

        Of prompts without the trigger word it is the distance to the base model's prediction, as a share of it; their
        noise levels are the sampler's, so that they have no bands.
        """
        found: dict[str, dict[str, Any]] = {}
        used = sorted({band_of(sigma) for sigma in self.grid.sigmas})
        for kind in self.grid.kinds:
            bands = {
                BANDS[band]: Interval.of(self.changes(kind, scored, band=band)).as_json()
                for band in (used if kind != "preserved" else ())
            }
            whole = Interval.of(self.changes(kind, scored)).as_json()
            found[kind] = {**whole, **({"bands": bands} if bands else {})}
        return found


def _log_ratio(now: float, was: float) -> float:
    return math.log(max(now, _LEAST) / max(was, _LEAST))
