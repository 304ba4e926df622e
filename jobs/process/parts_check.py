"""Checks of the parts of a training run that do not depend on each other: images, samples, model files, network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.process.model_files import check_model_files
from jobs.process.training_checked import TrainingChecked
from toolkit.cards import ModelCard
from toolkit.compute.compute_check import compute_problems
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.config.compat.few_steps import few_steps_problems
from toolkit.config.compat.objectives import objective_problems
from toolkit.config.compat.optimizers import optimizer_problems
from toolkit.config.compat.trackers import tracker_problems
from toolkit.data.controls import sample_controls
from toolkit.data.references import measure_references
from toolkit.data.scan import scan_job
from toolkit.draw.adapter_header import must_fit
from toolkit.encode.vision import EncoderFacts, VisionEncoder, check_encoder, scoring_encoder, view_inputs
from toolkit.errors import JobError, Mistakes, Problem
from toolkit.hub.upload_check import hub_problems
from toolkit.objectives.choices import OBJECTIVES
from toolkit.plan.cards.split_check import split_problems
from toolkit.train.tasks.sample_needs import all_items, view_problems


def check_parts(checked: TrainingChecked, mistakes: Mistakes) -> TrainingChecked:
    """Check each part. Problems are added to `mistakes`."""
    config, card, source = checked.config, checked.card, str(checked.start.job.path)
    scan = checked.scan
    with mistakes.gathered():
        scan = scan_job(config, card)
    samples = [*sample_problems(config, card), *view_problems(all_items(config)), *_strength_problems(config)]
    parts = [*_without_views(config), *few_steps_problems(config), *objective_problems(config)]
    parts += optimizer_problems(config)
    parts += [*hub_problems(config), *tracker_problems(config)]
    is_here = checked.start.vram_gb is None
    parts += compute_problems(config, is_here=is_here)
    parts += split_problems(config, world=checked.start.ranks.world, is_here=is_here)
    if problems := [*beyond_the_model(config, card), *scan.problems, *parts, *samples]:
        mistakes.errors.append(JobError(source, problems))
    model = check_model_files(config, card, mistakes, source=source)
    return replace(checked, scan=scan, model=model, encoders=check_adapters(config, card, mistakes))


def check_adapters(
    config: TrainingProcessConfig, card: ModelCard, mistakes: Mistakes
) -> dict[VisionEncoder, EncoderFacts]:
    """Check the vision encoders of a job and the files of its adapters. Problems are added to `mistakes`.

    Returns:
        What is known of the encoders that are on this machine.
    """
    encoders: dict[VisionEncoder, EncoderFacts] = {}
    used = [*(one.encoder for one in view_inputs(config.adapter)), scoring_encoder(config)]
    for encoder in dict.fromkeys(one for one in used if one is not None):
        with mistakes.gathered():
            if (facts := check_encoder(encoder)) is not None:
                encoders[encoder] = facts
    seen = {one.index: encoders.get(one.encoder) for one in view_inputs(config.adapter)}
    for index, adapter in enumerate(config.adapter):
        with mistakes.gathered():
            if adapter.name_or_path is not None:
                facts = seen.get(index)
                own = None if facts is None else facts.shape.encoder
                must_fit(adapter.name_or_path, adapter, arch=card.arch, encoder=own)
    return encoders


def unknown_encoders(checked: TrainingChecked) -> Iterator[str]:
    """Lines on vision encoders that the first start will download."""
    for encoder in dict.fromkeys(one.encoder for one in view_inputs(checked.config.adapter)):
        if encoder not in checked.encoders:
            yield f"{encoder.source} is not on this machine yet, so it and the adapters that read it are not counted"


def sample_problems(config: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    """Samples that cannot be drawn: with images that cannot be used, or too small."""
    paths = dict.fromkeys(path for item in all_items(config) for path in item.references)
    small = {f"{one.width} x {one.height}" for one in all_items(config) if min(one.width, one.height) < card.divisor_px}
    found = measure_references(tuple(paths), card.reference_limits)[1]
    if small:
        what = f"{sorted(small)[0]} is below the smallest size that can be drawn, {card.divisor_px} x {card.divisor_px}"
        found.append(Problem("sample", what))
    if (adapter := config.control_adapter) is not None:
        items = all_items(config)
        found += [p for item in items for p in sample_controls(item, adapter, divisor=card.divisor_px)[1]]
    return list(dict.fromkeys(found))


def _without_views(config: TrainingProcessConfig) -> list[Problem]:
    """Datasets that have no images for adapters.

    Regularisation images may, if there is a network: it is trained on them while the adapter is off.
    """
    seeing = [adapter.type for adapter in config.adapter if adapter.choice.reads == "view"]
    if not seeing:
        return []
    what = (
        f"missing. The `{seeing[0]}` adapter sees an image for each training image: give the folder that contains "
        "them, or set `clip_image_from_same_folder: true`"
    )
    return [
        Problem(f"datasets[{index}].clip_image_path", what)
        for index, dataset in enumerate(config.datasets)
        if dataset.clip_image_path is None
        and not dataset.sees_itself
        and not (dataset.is_reg and config.network is not None)
    ]


def _strength_problems(config: TrainingProcessConfig) -> list[Problem]:
    """Settings that change the strength of a network, in a job that has none."""
    found = []
    if config.network is None and any(item.network_multiplier != 1 for item in all_items(config)):
        found.append(
            Problem(
                "sample.network_multiplier",
                "it scales a network, and this job trains none. Remove the key",
            )
        )
    if config.train.full_finetune and OBJECTIVES[config.train.objective].needs_network:
        what = (
            f"{config.train.objective} compares the model with itself without the network that is trained, and a full "
            "fine-tune has none. Train a network, or choose another objective"
        )
        found.append(Problem("train.objective", what))
    return found
