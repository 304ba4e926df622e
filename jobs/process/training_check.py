"""What is found out about a training run before any weight is read or anything written; loads no torch itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jobs.process.checked import Checked
from jobs.process.disk_check import Disk, check_disk
from jobs.process.model_files import ModelFacts, check_model_files
from jobs.process.start import Start
from toolkit.cards import ModelCard, find_cards
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.config.compat.released import label_of
from toolkit.data.dataset_hashes import fingerprint
from toolkit.data.dataset_report import describe_scan
from toolkit.data.needs import dataset_needs
from toolkit.data.references import measure_references
from toolkit.data.scan import scan_datasets
from toolkit.data.scan_result import Scan
from toolkit.errors import JobError, Problem, UserError
from toolkit.objectives.choices import OBJECTIVES
from toolkit.plan.memory_check import MemoryCheck, check_memory
from toolkit.plan.needs import Needs
from toolkit.plan.stage_list import describe_stages
from toolkit.plan.workload import workload_of
from toolkit.train.device_probe import find_device
from toolkit.train.finished import describe_end
from toolkit.train.resume import ResumePlan, RunFacts, describe_resume, plan_resume
from toolkit.train.sample_needs import all_items, reference_rules, sample_items, sample_needs

# The weights of a card's model, up to what files of 8 bits have beside them.
_SAME = 0.03


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

    @property
    def settings(self) -> Mapping[str, Any]:
        """Keys of the `model` section that the memory plan has chosen."""
        return self.memory.settings if self.memory else {}

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
            },
            "settings": dict(self.settings),
        }


def check_training(start: Start) -> TrainingChecked:
    """Read every image once, the headers of the model's files, and the manifest of the checkpoint to go on from.

    One step after another adds what it has found; the first that finds a reason why the run cannot work is the last.
    """
    checked = TrainingChecked(start)
    for step in (_datasets, _room, _resume):
        try:
            checked = step(checked)
        except UserError as error:
            return checked.refused(error)
        if checked.problems:
            return checked
    return checked


def run_facts(start: Start, scan: Scan) -> RunFacts:
    """What bundles say of a run."""
    return RunFacts(
        start.job.name,
        start.job.redacted(start.training.model_dump(mode="json")),
        fingerprint(scan.examples, [dataset.folder_path for dataset in start.training.datasets]),
        kind=type(start.training),
    )


def training_needs(start: Start, card: ModelCard, scan: Scan) -> Needs:
    """The union of what datasets, samples and objective need."""
    datasets = dataset_needs(start.training, scan.examples, start.output_folder)
    objective = Needs(passes=OBJECTIVES[start.training.train.objective].passes)
    return datasets | sample_needs(start.training, card) | objective


def _datasets(checked: TrainingChecked) -> TrainingChecked:
    start, config, card = checked.start, checked.config, checked.card
    train = config.train
    scan = scan_datasets(
        config.datasets,
        divisor_px=card.divisor_px,
        trigger_word=config.trigger_word,
        reg_weight=train.reg_weight,
        rules=reference_rules(config, card),
        uses_captions=config.uses_captions,
    )
    problems = [*beyond_the_model(config, card), *scan.problems, *_sample_problems(config, card)]
    if problems:
        return replace(checked, scan=scan).refused(JobError(str(start.job.path), problems, notices=scan.notices))
    _check_multipliers(config)
    needs = training_needs(start, card, scan)
    what = "full fine-tune" if config.network is None else f"LoRA of rank {config.network.linear}"
    label = label_of(config.model.model_dump(mode="json"), card)
    datasets = describe_scan(scan, batch_size=train.batch_size, gradient_accumulation=train.gradient_accumulation)
    samples = f", sample every {config.sample.sample_every}" if sample_items(config) else ""
    saves = f", save every {config.save.save_every}" if config.save.save_every else ""
    title = f"{start.job.name}: {what} of {label}, {train.steps} steps{samples}{saves} -> {start.output_folder}"
    found = replace(checked, scan=scan, needs=needs, lines=(title,), notices=scan.notices)
    return _add(found, *datasets, *scan.notices, *_plan(config, needs))


def _room(checked: TrainingChecked) -> TrainingChecked:
    """Memory, then disk: `model.memory: auto` chooses settings, which are those of this run from here on."""
    start, config, card = checked.start, checked.config, checked.card
    model = check_model_files(config, card, source=str(start.job.path))
    memory = _plan_memory(checked, model)
    if isinstance(memory, MemoryCheck):
        checked = replace(checked, memory=memory)
        if memory.refusal:
            return checked.refused(UserError(memory.refusal))
        start = start.with_model_settings(memory.settings)
    plan = checked.memory.plan if checked.memory else None
    folder, num_weights = start.output_folder, model.num_weights
    sides = model.lora_sides
    disk = check_disk(start.training, card, checked.needs, folder, num_weights=num_weights, plan=plan, lora_sides=sides)
    lines = memory.lines if isinstance(memory, MemoryCheck) else (memory,)
    return _add(replace(checked, start=start, disk=disk), *model.lines, *disk.lines, *lines)


def _plan_memory(checked: TrainingChecked, model: ModelFacts) -> MemoryCheck | str:
    """The plan, or why there is none."""
    start, card = checked.start, checked.card
    if card.size is None:
        return f"memory: {card.label} does not say how large it is, so nothing is predicted"
    if model.num_weights is not None and abs(model.num_weights / card.num_parameters - 1) > _SAME:
        return (
            f"memory: the weights here ({model.num_weights / 1e9:.2f} B) are not of the size of {card.label} "
            f"({card.num_parameters / 1e9:.2f} B), so nothing is predicted"
        )
    try:
        device = find_device(start.training.device)
    except UserError:  # the plan's first line says so
        device = None
    return check_memory(
        start.training,
        card.size,
        workload_of(checked.needs, card),
        device=device,
        vram_gb=start.vram_gb,
        assistant_parameters=model.num_assistant_weights,
        lora_sides=model.lora_sides,
    )


def _resume(checked: TrainingChecked) -> TrainingChecked:
    start = checked.start
    resume = plan_resume(start.output_folder, start.resume, run_facts(start, checked.scan), is_thorough=False)
    lines = [*describe_resume(resume), *describe_end(resume, checked.config.train.steps)]
    return _add(replace(checked, resume=resume, notices=(*checked.notices, *resume.notices)), *lines)


def _add(checked: TrainingChecked, *lines: str) -> TrainingChecked:
    warnings = tuple(line for line in lines if line.startswith("warning: "))
    indented = tuple(f"  {line}" for line in lines)
    return replace(checked, lines=(*checked.lines, *indented), notices=(*checked.notices, *warnings))


def _sample_problems(config: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    paths = dict.fromkeys(path for item in all_items(config) for path in item.references)
    return measure_references(tuple(paths), card.reference_limits)[1]


def _check_multipliers(config: TrainingProcessConfig) -> None:
    if config.network is None and any(item.network_multiplier != 1 for item in all_items(config)):
        raise UserError("sample.network_multiplier: a full fine-tune has no network to multiply. Remove the key.")


def _plan(config: TrainingProcessConfig, needs: Needs) -> Iterator[str]:
    try:
        yield f"device: {find_device(config.device)}"
    except UserError as error:  # the job may be meant for another machine; a run says the same and stops
        yield f"warning: {error}"
    yield describe_stages()
    yield from (resident.reason for resident in needs.resident)
    if needs.has_references:
        yield "reference images: encoded once, like the images; their tokens make steps longer"


def _buckets(buckets: Mapping[tuple[int, int], int]) -> list[dict[str, int]]:
    return [{"width": width, "height": height, "examples": count} for (width, height), count in buckets.items()]
