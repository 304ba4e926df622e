"""Checks a training run before any weights are read or anything is written; does not import torch itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from jobs.process.parts_check import check_parts, unknown_encoders
from jobs.process.ranks_check import describe_steps, share_batches
from jobs.process.room_check import check_room
from jobs.process.start import Start
from jobs.process.training_checked import TrainingChecked
from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.released import label_of
from toolkit.data.image_files import ImageError
from toolkit.data.needs import dataset_needs
from toolkit.data.scan_result import Scan
from toolkit.errors import JobError, Mistakes, UserError
from toolkit.plan.needs import Needs
from toolkit.plan.objective_needs import objective_needs
from toolkit.plan.stage_list import describe_stages, without_a_stage
from toolkit.train.finished import describe_end
from toolkit.train.resume import ResumePlan, describe_resume, differences_in, plan_resume
from toolkit.train.sharing_check import sharing_problems
from toolkit.train.tasks.sample_needs import describe_twin, sample_items, sample_needs
from toolkit.train.validation.grid import grid_of, grid_problems, validation_needs


def check_training(start: Start) -> TrainingChecked:
    """Check a training run: its images, the headers of its model files, and the checkpoint to resume from.

    Each step adds its findings and continues with what is known, so that the user hears of everything at once.
    """
    checked, mistakes = TrainingChecked(start), Mistakes()
    for step in (check_parts, share_batches, _plan, check_room, _resume):
        checked = step(checked, mistakes)
    return checked.refused(mistakes.error(str(start.job.path), checked.notices)) if mistakes else checked


def training_needs(start: Start, card: ModelCard, scan: Scan) -> Needs:
    """The combined needs of datasets, samples and objective. Everything that must be encoded has a stage.

    Samples with an image that cannot be read, which the check reports, need nothing.
    """
    needs = dataset_needs(start.training, scan.examples, start.output_folder)
    needs |= objective_needs(start.training, card, scan.examples, needs.texts)
    needs |= validation_needs(start.training, grid_of(start.training, scan), start.output_folder)
    with contextlib.suppress(ImageError):
        needs |= sample_needs(start.training, card, start.output_folder)
    assert not without_a_stage(needs), f"no stage encodes {without_a_stage(needs)}"
    return needs


def _plan(checked: TrainingChecked, mistakes: Mistakes) -> TrainingChecked:
    """What the run will do, and what that needs."""
    start, config, card, scan = checked.start, checked.config, checked.card, checked.scan
    train, needs = config.train, training_needs(start, card, scan)
    what = _what_is_trained(config)
    label = label_of(config.model.model_dump(mode="json"), card)
    samples = f", sample every {config.sample.sample_every}" if sample_items(config) else ""
    saves = f", save every {' and every '.join(config.save.times)}" if config.save.is_between else ""
    title = f"{start.job.name}: {what} of {label}, {train.steps} steps{samples}{saves} -> {start.output_folder}"
    notices = (*checked.notices, *scan.notices)
    found = replace(checked, needs=needs, lines=(title,), notices=notices)
    sharing = sharing_problems(train, card, needs, start.ranks.world)
    if problems := [*sharing, *grid_problems(config, scan, found.grid)]:
        mistakes.errors.append(JobError(str(start.job.path), problems))
    if mistakes:  # the lines would describe a run without what is wrong
        return replace(found, lines=())
    validation = [] if found.grid is None else found.grid.describe(train.steps, found.validation_pass_s)
    return found.adding(
        *describe_steps(checked),
        *describe_twin(config),
        *validation,
        *notices,
        *_resources(start, needs),
        *unknown_encoders(checked),
    )


def _what_is_trained(config: TrainingProcessConfig) -> str:
    if config.train.full_finetune:
        return " and ".join(["full fine-tune", *(f"{adapter.type} adapter" for adapter in config.adapter)])
    adapters = [f"{adapter.type} adapter" for adapter in config.adapter]
    return " and ".join([*adapters, *([config.network.describe()] if config.network else [])])


def _resume(checked: TrainingChecked, mistakes: Mistakes) -> TrainingChecked:
    start, is_known = checked.start, not mistakes
    try:
        resume = plan_resume(start.output_folder, start.resume, checked.run_facts(), is_thorough=False)
    except UserError as error:
        mistakes.errors.append(error)
        return replace(checked, resume=ResumePlan(None, differences=differences_in(error)))
    checked = replace(checked, resume=resume)
    if not is_known:  # images that cannot be read would seem to have been removed
        return checked
    lines = [*describe_resume(resume), *describe_end(resume, checked.config.train.steps)]
    return replace(checked, notices=(*checked.notices, *resume.notices)).adding(*lines)


def _resources(start: Start, needs: Needs) -> Iterator[str]:
    yield start.describe_device()
    yield describe_stages(needs)
    yield from (resident.reason for resident in needs.resident)
    if needs.has_references:
        yield "reference images: encoded once, like the images; their tokens make steps longer"
