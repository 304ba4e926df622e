"""Checks a job here for a card on another machine."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.job import Job
from jobs.process.training_checked import TrainingChecked
from toolkit.cards import find_cards
from toolkit.config import JobConfig
from toolkit.parallel.ranks import PlannedRanks
from toolkit.units import GB, MB

_OTHER_RAM_BYTES = 4 * GB  # of the system, and of what the plan does not know


@dataclass(frozen=True)
class RemoteCheck:
    """The result of a check.

    Attributes:
        lines: the plan, for the user.
        refusal: why the job cannot work; empty if it can.
        ram_mib: RAM to ask for, for each machine; None if nothing is predicted.
        is_gated: whether a model can be downloaded only with a token.
    """

    lines: tuple[str, ...]
    refusal: str
    ram_mib: int | None
    is_gated: bool


def check_for(job: JobConfig, vram_gb: int, *, output: str, cards: int = 1, machines: int = 1) -> RemoteCheck:
    """Check a job for a card on another machine.

    Args:
        job: the job, with the paths of this machine.
        vram_gb: memory of the card in GB.
        output: parent of the output folders there, which are taken to be empty.
        cards: number of cards of each machine; a rank trains on each.
        machines: number of machines that train together.
    """
    ranks = PlannedRanks(cards, machines)
    with tempfile.TemporaryDirectory() as empty:
        checks = list(Job(_elsewhere(job, Path(empty)), vram_gb=vram_gb, ranks=ranks).checks())
    plans = [checked.memory.plan for checked in checks if isinstance(checked, TrainingChecked) and checked.memory]
    peak = max((plan.peak_ram_bytes for plan in plans), default=None)
    known, models = find_cards(), [process.model for process in map(job.training, range(len(job.config.process)))]
    return RemoteCheck(
        lines=tuple(line.replace(empty, output) for checked in checks for line in checked.lines),
        refusal=next((checked.refusal for checked in checks if checked.problems), ""),
        ram_mib=None if peak is None else math.ceil((peak * cards + _OTHER_RAM_BYTES) / MB),
        is_gated=any(known[model.arch].is_gated and not Path(model.name_or_path).exists() for model in models),
    )


def _elsewhere(job: JobConfig, folder: Path) -> JobConfig:
    """The job with other output folders, since the ones here say nothing about the ones there."""
    moved = [process.model_copy(update={"training_folder": folder}) for process in job.config.process]
    return replace(job, config=job.config.model_copy(update={"process": tuple(moved)}))
