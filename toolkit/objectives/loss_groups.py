"""The losses of a step by band of noise and by dataset: summed on the device, and averaged once they have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.config.validation.settings import BANDS
from toolkit.objectives.batch import Batch

_DIGITS = 5  # of what is written, which is for curves: a step takes little room in the log


class LossGroups:
    """Sums the losses of the samples of a step, for each band of noise and each dataset. Nothing waits for the device.

    Args:
        datasets: names of the datasets whose losses are reported separately.

    Attributes:
        sums: sums of losses, and numbers of samples, [2, bands + datasets], fp32; None before the first batch.
    """

    def __init__(self, datasets: Sequence[str]) -> None:
        self.datasets = datasets
        self.sums: Tensor | None = None

    def add(self, batch: Batch, losses: Tensor, sigma: Tensor) -> None:
        """Add a batch.

        Args:
            batch: the samples.
            losses: the loss of each sample, [B].
            sigma: the noise level of each sample, [B], 0..1, on any device.
        """
        rows = torch.stack([losses.float(), torch.ones_like(losses, dtype=torch.float32)])  # [2, B]
        found = torch.zeros(2, len(BANDS) + len(self.datasets), device=losses.device)
        band = (sigma.to(losses.device) * len(BANDS)).long().clamp(0, len(BANDS) - 1)  # as `band_of`
        found.index_add_(1, band, rows)
        if self.datasets and batch.datasets is not None:
            found.index_add_(1, len(BANDS) + batch.datasets.to(losses.device), rows)
        self.sums = found if self.sums is None else self.sums + found.to(self.sums.device)


@dataclass(frozen=True)
class GroupFigures:
    """Sums over samples of one or more steps, on the host.

    Attributes:
        losses: of the losses of each band of noise, and then of each dataset.
        lengths: the same of the length of the gradient of the step that a sample was in.
        counts: numbers of samples.
        datasets: names of the datasets whose losses are reported separately.
    """

    losses: Sequence[float]
    lengths: Sequence[float]
    counts: Sequence[float]
    datasets: Sequence[str] = ()

    @classmethod
    def of_step(cls, sums: Sequence[float], grad_norm: float, datasets: Sequence[str] = ()) -> GroupFigures:
        """Those of one step, from the figures of `LossGroups.sums`, row by row, if there are any."""
        half = len(sums) // 2
        return cls(sums[:half], [grad_norm * count for count in sums[half:]], sums[half:], datasets)

    def __add__(self, other: GroupFigures) -> GroupFigures:
        def added(some: Sequence[float], others: Sequence[float]) -> list[float]:
            return [one + another for one, another in zip(some, others, strict=True)]

        return GroupFigures(
            added(self.losses, other.losses),
            added(self.lengths, other.lengths),
            added(self.counts, other.counts),
            self.datasets,
        )

    def means(self) -> dict[str, dict[str, float]]:
        """Mean loss and gradient length of each band of noise, and mean loss of each dataset, if it has samples.

        The norm is that of the whole step: with several samples in a step, it is not that of the band alone.
        """
        groups = [*BANDS, *self.datasets] if self.counts else []
        loss, length = (
            {name: _short(total / num) for name, total, num in zip(groups, sums, self.counts, strict=True) if num}
            for sums in (self.losses, self.lengths)
        )
        found = {
            "loss_by_noise": {name: mean for name, mean in loss.items() if name in BANDS},
            "grad_by_noise": {name: mean for name, mean in length.items() if name in BANDS},
            "loss_by_dataset": {name: mean for name, mean in loss.items() if name not in BANDS},
        }
        return {by: means for by, means in found.items() if means}


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
