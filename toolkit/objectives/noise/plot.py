"""Draws which noise levels a job trains at, and how much each counts, by the functions that train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from toolkit.config import TrainingProcessConfig
from toolkit.errors import UserError
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.noise.levels import NoiseLevels

NUM_BINS = 20
_NUM_DRAWS = 200_000
_WIDTH_PX, _HEIGHT_PX, _MARGIN_PX = 900, 420, 50
_BAR, _LINE, _INK = (150, 180, 220), (200, 60, 40), (40, 40, 40)


@dataclass(frozen=True)
class Histogram:
    """The noise levels of one image size.

    Attributes:
        title: the size, and how the levels are drawn.
        shares: share of the draws in each bin of sigma, from 0 to 1.
        weights: mean weight of the loss of the draws in each bin; 0 where there are none.
    """

    title: str
    shares: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def parts(self) -> tuple[float, ...]:
        """Share of each bin in the sum of all weights: how much of the loss is about it, errors being equal."""
        products = [share * weight for share, weight in zip(self.shares, self.weights, strict=True)]
        total = sum(products)
        return tuple(product / total for product in products)


def histograms(config: TrainingProcessConfig, *, num_bins: int = NUM_BINS) -> list[Histogram]:
    """A histogram for each resolution of a job; one for all if the size of images makes no difference.

    Raises:
        UserError: the job's objective draws steps, not noise levels.
    """
    train, card = config.train, config.card
    if OBJECTIVES[train.objective].has_steps:
        raise UserError(f"`objective: {train.objective}` draws steps between two noise levels, which cannot be plotted")
    divisor = 16 if card is None else card.divisor_px
    sizes = sorted({size for dataset in config.datasets for size in dataset.resolution})
    levels = NoiseLevels.from_config(train)
    found: dict[tuple[float, ...], Histogram] = {}
    for size in sizes:
        one = _histogram(levels, (size // divisor) ** 2, f"{train.timestep_type} at {size} x {size}", num_bins)
        found.setdefault(one.shares, one)
    return list(found.values())


def as_text(histogram: Histogram) -> list[str]:
    """Lines with a bar for each bin: share of the draws, weight, and part of the loss."""
    longest = max(histogram.shares)
    lines = [histogram.title, "     sigma    drawn  weight    part"]
    for index, share in enumerate(histogram.shares):
        low, high = index / len(histogram.shares), (index + 1) / len(histogram.shares)
        bar = "#" * round(40 * share / longest)
        weight, part = histogram.weights[index], histogram.parts[index]
        lines.append(f"{low:5.2f}-{high:4.2f}  {share:6.1%}  {weight:6.2f}  {part:6.1%}  {bar}".rstrip())
    return lines


def as_picture(found: Sequence[Histogram]) -> Image.Image:
    """Bars for how often levels are drawn, and a line for their weights, one plot below the other."""
    picture = Image.new("RGB", (_WIDTH_PX, _HEIGHT_PX * len(found)), "white")
    for index, histogram in enumerate(found):
        _draw(ImageDraw.Draw(picture), histogram, top=index * _HEIGHT_PX)
    return picture


def save_picture(found: Sequence[Histogram], path: Path) -> None:
    """Write the plots as a PNG file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        as_picture(found).save(path, format="PNG")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _histogram(levels: NoiseLevels, num_tokens: int, title: str, num_bins: int) -> Histogram:
    uniform = (torch.arange(_NUM_DRAWS, dtype=torch.float64) + 0.5) / _NUM_DRAWS
    sigma = levels.sigma(uniform.float(), num_tokens)
    bins = (sigma.double() * num_bins).floor().long().clamp(max=num_bins - 1)
    counts = torch.bincount(bins, minlength=num_bins).double()
    weights = torch.bincount(bins, weights=levels.weight(sigma).double(), minlength=num_bins) / counts.clamp(min=1)
    return Histogram(title, tuple((counts / _NUM_DRAWS).tolist()), tuple(weights.tolist()))


def _draw(draw: ImageDraw.ImageDraw, histogram: Histogram, *, top: int) -> None:
    left, right, bottom = _MARGIN_PX, _WIDTH_PX - _MARGIN_PX, top + _HEIGHT_PX - _MARGIN_PX
    height, width = _HEIGHT_PX - 2 * _MARGIN_PX, (right - left) / len(histogram.shares)
    most, heaviest = max(histogram.shares), max(histogram.weights)
    points = []
    for index, (share, weight) in enumerate(zip(histogram.shares, histogram.weights, strict=True)):
        x = left + index * width
        draw.rectangle((x, bottom - height * share / most, x + width - 1, bottom), fill=_BAR)
        if share > 0:
            points.append((x + width / 2, bottom - height * weight / heaviest))
    draw.line(points, fill=_LINE, width=3)
    draw.line((left, bottom, right, bottom), fill=_INK)
    draw.text((left, top + 10), f"{histogram.title}", fill=_INK)
    legend = f"bars: share of draws, up to {most:.1%}    line: weight in the loss, up to {heaviest:.2f}"
    draw.text((left, top + 28), legend, fill=_LINE)
    for tenth in range(0, 11, 2):
        draw.text((left + (right - left) * tenth / 10 - 8, bottom + 8), f"{tenth / 10:.1f}", fill=_INK)
    draw.text((right - 260, bottom + 26), "sigma: 0 clean image, 1 pure noise", fill=_INK)
