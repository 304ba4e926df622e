"""What is found out about a training run before any weight is read or anything written; loads no torch itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.process.room_check import check_room
from jobs.process.start import Start
from jobs.process.training_checked import TrainingChecked
from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.config.compat.released import label_of
from toolkit.data.dataset_report import describe_scan
from toolkit.data.needs import dataset_needs
from toolkit.data.references import measure_references
from toolkit.data.scan import scan_datasets
from toolkit.data.scan_result import Scan
from toolkit.errors import JobError, Problem, UserError
from toolkit.objectives.choices import OBJECTIVES
from toolkit.plan.needs import Needs
from toolkit.plan.stage_list import describe_stages
from toolkit.runtime.device_probe import find_device
from toolkit.train.finished import describe_end
from toolkit.train.resume import ResumePlan, describe_resume, differences_in, plan_resume
from toolkit.train.tasks.sample_needs import all_items, reference_rules, sample_items, sample_needs


def check_training(start: Start) -> TrainingChecked:
    """Read every image once, the headers of the model's files, and the manifest of the checkpoint to go on from.

    One step after another adds what it has found; the first that finds a reason why the run cannot work is the last.
    """
    checked = TrainingChecked(start)
    for step in (_datasets, check_room, _resume):
        try:
            checked = step(checked)
        except UserError as error:
            return checked.refused(error)
        if checked.problems:
            return checked
    return checked


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
    return found.adding(*datasets, *scan.notices, *_plan(config, needs))


def _resume(checked: TrainingChecked) -> TrainingChecked:
    start = checked.start
    try:
        resume = plan_resume(start.output_folder, start.resume, checked.run_facts(), is_thorough=False)
    except UserError as error:
        return replace(checked, resume=ResumePlan(None, differences=differences_in(error))).refused(error)
    lines = [*describe_resume(resume), *describe_end(resume, checked.config.train.steps)]
    return replace(checked, resume=resume, notices=(*checked.notices, *resume.notices)).adding(*lines)


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
