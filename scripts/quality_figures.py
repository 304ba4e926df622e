"""The figures of `benchmarks/results/quality.json`: means over seeds, their intervals, and differences between rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "quality.json"
# Student's t: half the width of a 95 % interval in standard errors, by number of seeds.
_T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
MIN_SEEDS = 3
SCORES = {
    "concept": ("learns more", "learns less"),
    "rest": ("the rest is better", "the rest is worse"),
    "kept": ("keeps more", "keeps less"),
}
"""Each score, with the words for a row that has more of it, and for one that has less."""


@dataclass(frozen=True)
class Interval:
    """The mean over seeds, and half the width of its 95 % interval by Student's t."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: list[float]) -> Interval:
        """The interval of at least two values."""
        return cls(statistics.mean(values), _T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5)

    @property
    def has_sign(self) -> bool:
        """Whether it does not contain 0."""
        return abs(self.mean) > self.half

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}"

    @property
    def signed(self) -> str:
        """As a difference."""
        return f"{self.mean:+.2f} ± {self.half:.2f}"


@dataclass(frozen=True)
class Figures:
    """Scores by row and seed.

    Attributes:
        base: scores of the model before training, by task.
        rows: scores of each row by seed.
        in_bf16: names of the rows that were trained with products in bf16, the others in fp32.
    """

    base: Mapping[str, Mapping[str, float]]
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    in_bf16: frozenset[str] = frozenset()

    def has(self, row: str) -> bool:
        """Whether a row has seeds enough for an interval that says something."""
        return len(self.rows.get(row, {})) >= MIN_SEEDS

    def num_seeds(self, row: str) -> int:
        """Number of seeds of a row."""
        return len(self.rows[row])

    def scores(self, row: str) -> list[str]:
        """Names of the scores of a row, in the order of `SCORES`."""
        first = next(iter(self.rows[row].values()))
        return [name for name in SCORES if name in first]

    def of(self, row: str, score: str) -> Interval:
        """A score of a row, over its seeds."""
        return Interval.of([scores[score] for scores in self.rows[row].values()])

    def mean(self, row: str, figure: str) -> float:
        """The mean of a figure over seeds, such as `cpu_s`."""
        return statistics.mean(scores[figure] for scores in self.rows[row].values())

    def difference(self, row: str, other: str, score: str) -> Interval:
        """How much more a row has than another, over the seeds of both: with a seed, both see the same noise."""
        assert (row in self.in_bf16) == (other in self.in_bf16), f"{row!r} and {other!r} have other number formats"
        seeds = self._common_seeds(row, other)
        return Interval.of([self.rows[row][seed][score] - self.rows[other][seed][score] for seed in seeds])

    def _common_seeds(self, row: str, other: str) -> list[str]:
        return sorted(self.rows[row].keys() & self.rows[other].keys())

    def verdict(self, row: str, other: str) -> str:
        """In words, in which scores a row differs from another: only where the interval does not contain 0."""
        if len(self._common_seeds(row, other)) < MIN_SEEDS:
            return "too few seeds in common"
        found = []
        for score in self.scores(row):
            difference = self.difference(row, other, score)
            if difference.has_sign:
                more, less = SCORES[score]
                found.append(f"{more if difference.mean > 0 else less} ({difference.signed})")
        return ", ".join(found) or "no difference shown"


@cache
def figures() -> Figures:
    """What has been measured."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    return Figures(found["base"], found["rows"], frozenset(found["in_bf16"]))
