"""Means of paired changes, each with its 95 % interval by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Half the width of a 95 % interval in standard errors, for 1, 2, ... degrees of freedom.
_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


_LARGEST = 20.0  # logarithm of a ratio that is still written out


@dataclass(frozen=True)
class Interval:
    """A mean, and half the width of its 95 % interval.

    Attributes:
        mean: the mean.
        half: half the width; None if a single value tells nothing of it.
        num: number of values.
    """

    mean: float
    half: float | None
    num: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The interval of the mean of at least one value."""
        mean = statistics.fmean(values)
        if len(values) < 2:
            return cls(mean, None, len(values))
        error = statistics.stdev(values, mean) / len(values) ** 0.5
        return cls(mean, student_t(len(values) - 1) * error, len(values))

    @classmethod
    def between(cls, first: Sequence[float], second: Sequence[float]) -> Interval:
        """The interval of mean(first) - mean(second) of two groups of different images.

        Source: Welch's t-test; its degrees of freedom are rounded down.
        """
        mean, num = statistics.fmean(first) - statistics.fmean(second), min(len(first), len(second))
        if num < 2:
            return cls(mean, None, num)
        one, other = (statistics.variance(values) / len(values) for values in (first, second))
        if one + other == 0:
            return cls(mean, 0.0, num)
        freedom = (one + other) ** 2 / (one**2 / (len(first) - 1) + other**2 / (len(second) - 1))
        return cls(mean, student_t(max(1, int(freedom + 1e-9))) * (one + other) ** 0.5, num)

    @property
    def is_above_0(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.half is not None and self.mean > self.half

    @property
    def has_sign(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.half is not None and abs(self.mean) > self.half

    def as_json(self) -> dict[str, float | int | None]:
        """Plain JSON; what is not finite is null."""
        values = {"mean": self.mean, "half": self.half}
        return {name: value if value is None or math.isfinite(value) else None for name, value in values.items()} | {
            "num": self.num
        }

    def as_ratio(self) -> str:
        """The mean of logarithms in percent of change, with the ends of its interval: `-9.5 % (-13.9 to -5.0)`."""
        ends = () if self.half is None else (self.mean - self.half, self.mean + self.half)
        said = " to ".join(f"{_percent(end):+.1f}" for end in ends)
        return f"{_percent(self.mean):+.1f} %" + (f" ({said})" if said else "")


def student_t(freedom: int) -> float:
    """Half the width of a 95 % interval in standard errors, for so many degrees of freedom, at least 1."""
    if freedom <= len(_T_95):
        return _T_95[freedom - 1]
    return 1.96 + 2.372 / freedom + 2.82 / freedom**2  # Cornish and Fisher's expansion


def _percent(logarithm: float) -> float:
    return 100 * math.expm1(min(logarithm, _LARGEST))
