"""What one process of a job is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.config import JobConfig, ProcessConfig, TrainingProcessConfig
from toolkit.parallel.ranks import Ranks, find_ranks
from toolkit.train.resume import ResumeChoice


@dataclass(frozen=True)
class Start:
    """A process of a job, and what the user said of this start.

    Attributes:
        job: the whole job.
        process_id: place of the process in the job's list, from 0.
        config: the settings of the process.
        resume: where the user wants to go on from.
        vram_gb: plan for a card of this size instead of this machine.
        ranks: the processes that carry it out together.
    """

    job: JobConfig
    process_id: int
    config: ProcessConfig
    resume: ResumeChoice = field(default_factory=ResumeChoice)
    vram_gb: float | None = None
    ranks: Ranks = field(default_factory=find_ranks)

    @property
    def training(self) -> TrainingProcessConfig:
        """The settings of a process that is a training run."""
        assert isinstance(self.config, TrainingProcessConfig), f"{self.config.type} does not train"
        return self.config

    @property
    def output_folder(self) -> Path:
        """Where everything goes that the process writes."""
        return self.config.output_folder(self.job.name)

    def with_model_settings(self, settings: Mapping[str, Any]) -> Start:
        """The same with more keys in the `model` section, which count as the job's from here on."""
        if not settings:
            return self
        return replace(
            self,
            config=self.config.model_copy(update={"model": self.training.model.with_settings(settings)}),
            job=self.job.with_model_settings(self.process_id, settings),
        )
