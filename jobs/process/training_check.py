"""Checks a training run before any weights are read or anything is written; does not import torch itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.process.parts_check import check_parts
from jobs.process.room_check import check_room
from jobs.process.start import Start
from jobs.process.training_checked import TrainingChecked
from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.released import label_of
from toolkit.data.dataset_report import describe_scan
from toolkit.data.needs import dataset_needs
from toolkit.data.scan_result import Scan
from toolkit.errors import UserError
from toolkit.objectives.choices import OBJECTIVES
from toolkit.plan.needs import Needs
from toolkit.plan.stage_list import describe_stages, without_a_stage
from toolkit.runtime.device_probe import find_device
from toolkit.train.finished import describe_end
from toolkit.train.resume import ResumePlan, describe_resume, differences_in, plan_resume
from toolkit.train.tasks.sample_needs import sample_items, sample_needs


def check_training(start: Start) -> TrainingChecked:
    """Check a training run: its images, the headers of its model files, and the checkpoint to resume from.

    Each step adds its findings. The first step that finds a reason why the run cannot work ends the check. The first
    step checks everything that can be checked independently, so that the user sees all those problems at once.
    """
    checked = TrainingChecked(start)
    for step in (check_parts, _plan, check_room, _resume):
        try:
            checked = step(checked)
        except UserError as error:
            return checked.refused(error)
        if checked.problems:
            return checked
    return checked


def training_needs(start: Start, card: ModelCard, scan: Scan) -> Needs:
    """The combined needs of datasets, samples and objective. Everything that must be encoded has a stage."""
    datasets = dataset_needs(start.training, scan.examples, start.output_folder)
    objective = Needs(passes=OBJECTIVES[start.training.train.objective].passes)
    needs = datasets | sample_needs(start.training, card) | objective
    assert not without_a_stage(needs), f"no stage encodes {without_a_stage(needs)}"
    return needs


def _plan(checked: TrainingChecked) -> TrainingChecked:
    """What the run will do, and what that needs."""
    start, config, card, scan = checked.start, checked.config, checked.card, checked.scan
    train, needs = config.train, training_needs(start, card, scan)
    what = "full fine-tune" if config.network is None else f"LoRA of rank {config.network.linear}"
    label = label_of(config.model.model_dump(mode="json"), card)
    batches_per_step = train.gradient_accumulation * start.ranks.world
    datasets = describe_scan(scan, batch_size=train.batch_size, gradient_accumulation=batches_per_step)
    samples = f", sample every {config.sample.sample_every}" if sample_items(config) else ""
    saves = f", save every {config.save.save_every}" if config.save.save_every else ""
    title = f"{start.job.name}: {what} of {label}, {train.steps} steps{samples}{saves} -> {start.output_folder}"
    found = replace(checked, needs=needs, lines=(title,), notices=scan.notices)
    return found.adding(*datasets, *scan.notices, *_resources(config, needs))


def _resume(checked: TrainingChecked) -> TrainingChecked:
    start = checked.start
    try:
        resume = plan_resume(start.output_folder, start.resume, checked.run_facts(), is_thorough=False)
    except UserError as error:
        return replace(checked, resume=ResumePlan(None, differences=differences_in(error))).refused(error)
    lines = [*describe_resume(resume), *describe_end(resume, checked.config.train.steps)]
    return replace(checked, resume=resume, notices=(*checked.notices, *resume.notices)).adding(*lines)


def _resources(config: TrainingProcessConfig, needs: Needs) -> Iterator[str]:
    try:
        yield f"device: {find_device(config.device)}"
    except UserError as error:  # the job may be meant for another machine; a run stops with the same message
        yield f"warning: {error}"
    yield describe_stages()
    yield from (resident.reason for resident in needs.resident)
    if needs.has_references:
        yield "reference images: encoded once, like the images; their tokens make steps longer"
