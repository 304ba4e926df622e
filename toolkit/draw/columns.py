"""What the columns of a sheet stand for: checkpoints, strengths, both, or numbers of steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.config import SampleItem
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.adapter_header import is_adapter

BASE = "without LoRA"
Loras = tuple[tuple[Path, float], ...]


@dataclass(frozen=True)
class Column:
    """One way in which every prompt of a job is drawn.

    Attributes:
        name: what is written above it; empty for a job without a sheet.
        loras: files and their weights.
        strength: of all LoRAs and adapters, instead of the prompt's; None for that.
        steps: denoising steps, instead of the prompt's; None for those.
        adapter: file of an adapter, instead of the job's of that kind; None for that.
    """

    name: str
    loras: Loras
    strength: float | None = None
    steps: int | None = None
    adapter: Path | None = None

    def of(self, item: SampleItem) -> SampleItem:
        """A prompt as this column draws it."""
        if self.strength is not None:
            item = replace(item, network_multiplier=self.strength, adapter_conditioning_scale=self.strength)
        return item if self.steps is None else replace(item, sample_steps=self.steps)


def columns_of(drawing: GenerateProcessConfig) -> tuple[Column, ...]:
    """The columns of a job's sheet; a single one without a name if there is no sheet."""
    loras = tuple((one.path, one.weight) for one in drawing.loras)
    if drawing.sheet == "strengths":
        return tuple(Column(f"strength {value:g}", loras, strength=value) for value in drawing.strengths)
    if drawing.sheet == "steps":
        return tuple(Column(f"{value} steps", loras, steps=value) for value in drawing.steps)
    if drawing.sheet == "checkpoints":
        return tuple(
            Column(path.stem, loras, adapter=path) if is_adapter(path) else Column(path.stem, (*loras, (path, 1.0)))
            for path in drawing.checkpoints
        )
    if drawing.sheet == "grid":
        return tuple(_grid(loras, dict.fromkeys(drawing.checkpoints), dict.fromkeys(drawing.strengths)))
    return (Column("", loras),)


def _grid(loras: Loras, files: Iterable[Path], strengths: Collection[float]) -> Iterator[Column]:
    """Without strength all files are the same: one column."""
    if 0 in strengths:
        yield Column(BASE, loras)
    for path in files:
        for value in strengths:
            if value:
                yield Column(f"{path.stem} x {value:g}", (*loras, (path, value)))
