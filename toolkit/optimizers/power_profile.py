"""Power-function averages: what share each step has, and how stored ones are combined into one of another width.

Source: Karras et al. 2023 (arXiv 2312.02696, section 3 and appendix C). They fit profiles of continuous time; these are
the exact shares of the steps of a run, so that short runs are right too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NARROWEST, WIDEST = 0.01, 0.25  # widths that can be asked for


@dataclass(frozen=True)
class Profile:
    """A power-function average of the weights after steps `since + 1` to `step`.

    Attributes:
        width: standard deviation of the steps that it is over, as a share of their number; above 0, below 0.288.
        step: the last step in it.
        since: number of steps that were done when it began.
    """

    width: float
    step: int
    since: int = 0

    def shares(self) -> Tensor:
        """The share of each of the steps 1 to `step`: [step], fp64, with sum 1.

        With a decay of (1 - 1/t) ** (gamma + 1), the weights after update s of t have the share
        (s ** (gamma + 1) - (s - 1) ** (gamma + 1)) / t ** (gamma + 1).
        """
        count, power = self.step - self.since, exponent(self.width) + 1
        reached = (torch.arange(count + 1, dtype=torch.float64) / count) ** power
        return torch.cat([torch.zeros(self.since, dtype=torch.float64), reached.diff()])


@dataclass(frozen=True)
class Fit:
    """How an average is made from others.

    Attributes:
        factors: factor of each of the others, with sum 1.
        error: distance of the result's shares from the wanted ones, relative to the norm of these.
    """

    factors: tuple[float, ...]
    error: float


def exponent(width: float) -> float:
    """gamma of a power function of this width: the positive root of width = sqrt(g + 1) / ((g + 2) sqrt(g + 3)).

    Args:
        width: relative standard deviation, above 0 and below 1 / sqrt(12), which is that of an even average.
    """
    low, high = 0.0, 1.0
    while _width(high) > width:
        high *= 2
    for _ in range(100):  # it falls with g: halve the interval
        middle = (low + high) / 2
        low, high = (middle, high) if _width(middle) > width else (low, middle)
    return (low + high) / 2


def _width(gamma: float) -> float:
    return float((gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5))


def fit(stored: Sequence[Profile], wanted: Profile) -> Fit:
    """The combination of stored averages whose shares are nearest to the wanted ones, by least squares.

    The factors have sum 1, so that the result is an average: one is what the others leave.

    Args:
        stored: the averages that there are, of no later step than the wanted one.
        wanted: the one to make.
    """
    target = wanted.shares()
    columns = [torch.nn.functional.pad(one.shares(), (0, wanted.step - one.step)) for one in stored]
    *others, last = columns
    if not others:
        factors = torch.ones(1, dtype=torch.float64)
    else:
        differences = torch.stack([column - last for column in others], dim=1)  # [step, others]
        found = torch.linalg.lstsq(differences, (target - last)[:, None], driver="gelsd").solution[:, 0]
        factors = torch.cat([found, 1 - found.sum()[None]])
    error = (torch.stack(columns, dim=1) @ factors - target).norm() / target.norm()
    return Fit(tuple(factors.tolist()), float(error))
