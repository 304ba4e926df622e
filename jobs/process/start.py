"""What a process of a job is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.config import JobConfig, ProcessConfig, TrainingProcessConfig
from toolkit.errors import UserError
from toolkit.parallel.groups import grouped
from toolkit.parallel.ranks import Ranks, find_ranks
from toolkit.runtime.device_probe import device_of_rank
from toolkit.train.resume import ResumeChoice


@dataclass(frozen=True)
class Start:
    """A process of a job, and the options that the user gave for this start.

    Attributes:
        job: the whole job.
        process_id: index of the process in the job's list, from 0.
        config: the settings of the process.
        resume: what the user wants to resume from.
        vram_gb: plan for a card of this many GB; None for this machine.
        ranks: the processes that run the job together.
        asked_accumulation: the job file's `train.gradient_accumulation`, if the run uses another; else None.
    """

    job: JobConfig
    process_id: int
    config: ProcessConfig
    resume: ResumeChoice = field(default_factory=ResumeChoice)
    vram_gb: float | None = None
    ranks: Ranks = field(default_factory=find_ranks)
    asked_accumulation: int | None = None

    @property
    def training(self) -> TrainingProcessConfig:
        """The settings of the process, which must be a training run."""
        assert isinstance(self.config, TrainingProcessConfig), f"{self.config.type} does not train"
        return self.config

    @property
    def batch_ranks(self) -> Ranks:
        """The ranks that batches are distributed to: groups of processes, if several share each sequence."""
        return grouped(self.ranks, self.training.train.context_parallel)

    @property
    def output_folder(self) -> Path:
        """The folder for everything that the process writes."""
        return self.config.output_folder(self.job.name)

    def find_device(self) -> str:
        """The device of this process, as torch names it.

        Raises:
            UserError: the device is not available.
        """
        ranks = self.ranks
        return device_of_rank(self.config.device, local_rank=ranks.local_rank, local_world=ranks.local_world)

    def describe_device(self) -> str:
        """The plan's line on the device; a warning if it is missing, for the job may be meant for another machine."""
        try:
            return f"device: {self.find_device()}"
        except UserError as error:  # a run stops with the same message
            return f"warning: {error}"

    def with_model_settings(self, settings: Mapping[str, Any]) -> Start:
        """A copy with more keys in the `model` section, as if the job file had set them."""
        if not settings:
            return self
        return replace(
            self,
            config=self.config.model_copy(update={"model": self.training.model.with_settings(settings)}),
            job=self.job.with_model_settings(self.process_id, settings),
        )

    def with_accumulation(self, number: int) -> Start:
        """A copy that accumulates gradients over so many batches per step on each rank; the job file stays as it is."""
        train = self.training.train
        if number == train.gradient_accumulation:
            return self
        config = self.config.model_copy(update={"train": train.model_copy(update={"gradient_accumulation": number})})
        return replace(self, config=config, asked_accumulation=train.gradient_accumulation)
