"""How a run of several processes shares its work, for the check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.process.training_checked import TrainingChecked
from toolkit.data.batches import shares_of
from toolkit.data.scan_result import describe_scan
from toolkit.errors import Mistakes, UserError
from toolkit.optimizers.schedules import schedule_of
from toolkit.train.batches_per_step import step_batches
from toolkit.train.resume import bundle_to_resume
from toolkit.train.sharing_check import describe_sharing


def share_batches(checked: TrainingChecked, mistakes: Mistakes) -> TrainingChecked:
    """How many batches each rank takes in a step: as many in all as before, if the run resumes."""
    start, train = checked.start, checked.config.train
    try:
        shared = step_batches(
            bundle_to_resume(start.output_folder, start.resume),
            asked=train.gradient_accumulation,
            ranks=start.batch_ranks.world,
            can_accumulate=not train.fused_backward_pass,
            accepts=start.resume.accept_config_change,
        )
    except UserError as error:
        mistakes.errors.append(error)
        return checked
    notices = (shared.notice,) if shared.notice else ()
    return replace(checked, start=start.with_accumulation(shared.accumulation), notices=(*checked.notices, *notices))


def describe_steps(checked: TrainingChecked) -> Iterator[str]:
    """What a step trains on, at what rate, and how ranks share it and the model, if there are several."""
    start, config, train = checked.start, checked.config, checked.config.train
    world, shares = start.batch_ranks.world, shares_of(config.datasets)
    num_batches = train.gradient_accumulation * world
    yield from describe_scan(
        checked.scan, batch_size=train.batch_size, gradient_accumulation=num_batches, shares=shares
    )
    if rate := schedule_of(train).describe():
        yield rate
    if world > 1:
        batches = f" x {train.gradient_accumulation} batches" if train.gradient_accumulation > 1 else ""
        who = "ranks" if world == start.ranks.world else "groups of ranks"
        images = train.batch_size * num_batches
        yield f"{world} {who}{batches} x {train.batch_size} images: {images} images a step"
    yield from describe_sharing(train, start.ranks.world)
