"""The result of checking a training run, as one value for the run, the command line and the web page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from jobs.process.checked import Checked
from jobs.process.disk_check import Disk
from jobs.process.model_files import ModelFacts
from toolkit.cards import ModelCard
from toolkit.config import ModelConfig, TrainingProcessConfig
from toolkit.config.drawing.twin import twin_of
from toolkit.data.scan_result import Scan
from toolkit.encode.vision import EncoderFacts, VisionEncoder
from toolkit.output.events import newest_events
from toolkit.plan.memory_check import MemoryCheck
from toolkit.plan.needs import Needs
from toolkit.train.resume import ResumePlan
from toolkit.train.run_facts import RunFacts
from toolkit.train.validation.grid import Grid, grid_of


@dataclass(frozen=True)
class TrainingChecked(Checked):
    """What is known about a training run. After a refusal, fields that were not reached keep their defaults.

    Attributes:
        scan: the result of scanning the datasets.
        model: what the headers of the model's files say.
        encoders: the vision encoders whose files are on this machine.
        needs: the needs of all parts of the run.
        memory: the memory plan; None if nothing is predicted.
        disk: what the run will write to disk.
        resume: where the run resumes from; only the sizes of the bundle's files have been checked.
    """

    scan: Scan = field(default_factory=lambda: Scan((), (), (), ()))
    model: ModelFacts = field(default_factory=lambda: ModelFacts(None, None))
    encoders: Mapping[VisionEncoder, EncoderFacts] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    memory: MemoryCheck | None = None
    disk: Disk = field(default_factory=Disk)
    resume: ResumePlan = field(default_factory=lambda: ResumePlan(None))

    @property
    def config(self) -> TrainingProcessConfig:
        """The settings of the run."""
        config = self.start.training
        assert isinstance(config, TrainingProcessConfig), "a check of training for another kind of process"
        return config

    @property
    def card(self) -> ModelCard:
        """The card of the run's model, as the run trains it."""
        card = self.config.card
        assert card is not None, "other models are refused when the job file is read"
        return card

    @cached_property
    def grid(self) -> Grid | None:
        """What validation scores; None without it."""
        return grid_of(self.config, self.scan)

    def adding(self, *lines: str) -> Self:
        """A copy with more lines for the user; warnings among them become notices too."""
        warnings = tuple(line for line in lines if line.startswith("warning: "))
        indented = tuple(f"  {line}" for line in lines)
        return replace(self, lines=(*self.lines, *indented), notices=(*self.notices, *warnings))

    @cached_property
    def validation_pass_s(self) -> float | None:
        """Seconds that a forward pass of the last round of validation in the output folder took; None without one."""
        log = self.start.output_folder / "events.jsonl"
        if self.grid is None or self.start.vram_gb is not None or not log.is_file():
            return None
        found = newest_events(log, passed_over="step")
        last = next((event for event in found if event["kind"] == "validation" and event.get("passes")), None)
        return None if last is None else last["seconds"] / last["passes"]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Keys of the `model` section that the memory plan has chosen."""
        return self.memory.settings if self.memory else {}

    @property
    def twin(self) -> ModelConfig | None:
        """The model that samples are drawn on; None if it is the model being trained."""
        return twin_of(self.config)

    @property
    def sample_batch(self) -> int:
        """The most pictures to draw in one batch: what the job says, or else the plan; one by one without a plan."""
        asked = self.config.sample.batch_size
        return asked if asked != "auto" else 1 if self.memory is None else self.memory.plan.inputs.sample_batch

    @property
    def keeps_twin(self) -> bool:
        """Whether the model that samples are drawn on, if it is another, stays loaded; without a plan it does not."""
        return self.memory is not None and self.memory.plan.inputs.preview == "run"

    def run_facts(self) -> RunFacts:
        """What this run's bundles record about it."""
        job, config = self.start.job, self.config
        sources = [dataset.folder_path for dataset in config.datasets]
        settings = job.redacted(config.model_dump(mode="json"))
        dataset, world = self.scan.fingerprint(sources), self.start.batch_ranks.world
        asked = self.start.asked_accumulation
        return RunFacts(job.name, settings, dataset, kind=type(config), world=world, asked_accumulation=asked)

    def facts(self) -> dict[str, Any]:
        """See Checked.facts; `jobs.check_json` describes them."""
        return {
            "datasets": [
                asdict(table) | {"source": str(table.source), "buckets": _buckets(table.buckets)}
                for table in self.scan.tables
            ],
            "needs": {
                "captions": len(self.needs.captions),
                "texts": len(self.needs.texts),
                "pictures": len(self.needs.pictures),
                "views": len(self.needs.views),
                "resident": [asdict(resident) for resident in self.needs.resident],
                "passes": asdict(self.needs.passes),
            },
            "validation": None
            if self.grid is None
            else self.grid.as_json(self.config.train.steps, self.validation_pass_s),
            "memory": self.memory.as_json() if self.memory else None,
            "disk": self.disk.as_json(),
            "resume": {
                "step": self.resume.step,
                "checkpoint": str(self.resume.bundle.folder) if self.resume.bundle else None,
                "superseded_steps": [bundle.step for bundle in self.resume.superseded],
                "differences": [asdict(difference) for difference in self.resume.differences],
            },
            "settings": dict(self.settings),
        }


def _buckets(buckets: Mapping[tuple[int, int], int]) -> list[dict[str, int]]:
    return [{"width": width, "height": height, "examples": count} for (width, height), count in buckets.items()]
