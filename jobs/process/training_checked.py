"""What a check has found out about a training run: one value for the run, the command line and the web page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from jobs.process.checked import Checked
from jobs.process.disk_check import Disk
from toolkit.cards import ModelCard, find_cards
from toolkit.config import TrainingProcessConfig
from toolkit.data.dataset_hashes import fingerprint
from toolkit.data.scan_result import Scan
from toolkit.plan.memory_check import MemoryCheck
from toolkit.plan.needs import Needs
from toolkit.train.resume import ResumePlan
from toolkit.train.run_facts import RunFacts


@dataclass(frozen=True)
class TrainingChecked(Checked):
    """What is known of a training run. After a refusal the later fields are as they are here.

    Attributes:
        scan: the images.
        needs: of all parts of the run.
        memory: the plan of the memory; None if nothing is predicted.
        disk: what will be written.
        resume: where the run goes on from, by the sizes of the bundle's files.
    """

    scan: Scan = field(default_factory=lambda: Scan((), (), (), ()))
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
        """Of the model."""
        return find_cards()[self.config.model.arch]

    def adding(self, *lines: str) -> Self:
        """The same with more lines for the user; warnings among them are notices too."""
        warnings = tuple(line for line in lines if line.startswith("warning: "))
        indented = tuple(f"  {line}" for line in lines)
        return replace(self, lines=(*self.lines, *indented), notices=(*self.notices, *warnings))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Keys of the `model` section that the memory plan has chosen."""
        return self.memory.settings if self.memory else {}

    def run_facts(self) -> RunFacts:
        """What the bundles of this run say of it."""
        job, config = self.start.job, self.config
        sources = [dataset.folder_path for dataset in config.datasets]
        settings = job.redacted(config.model_dump(mode="json"))
        return RunFacts(job.name, settings, fingerprint(self.scan.examples, sources), kind=type(config))

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
