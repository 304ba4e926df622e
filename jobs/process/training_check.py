"""What is found out about a training run before any weight is read or anything written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.process.inputs import OVERFLOW_CACHE, captions, reference_rules, sample_items
from toolkit.cards import ModelCard, find_cards
from toolkit.config import JobConfig, ProcessConfig
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.data.dataset_report import describe_scan
from toolkit.data.examples import Example
from toolkit.data.references import measure_references
from toolkit.data.scan import scan_datasets
from toolkit.data.scan_result import Scan
from toolkit.errors import JobError, Problem, UserError
from toolkit.output.disk import check_output_folder, drive_of, most_trained, needed_bytes
from toolkit.plan.encoded_size import captions_bytes, describe_captions, overflow_bytes
from toolkit.plan.memory_plan import Plan, quantized_bytes
from toolkit.plan.plan_inputs import MOMENTS
from toolkit.plan.plan_report import gigabytes
from toolkit.plan.workload import latents_on_disk
from toolkit.quantize.quantized_cache import cache_folder, find_similar, lack_of_room
from toolkit.train.precision import pick_device


def check_training(job: JobConfig, config: ProcessConfig, output_folder: Path) -> tuple[Scan, list[str]]:
    """Read every image once and find what cannot work with this model.

    Returns:
        The images, and the plan line by line.

    Raises:
        UserError: it cannot work; a JobError if there are several reasons.
    """
    train, card = config.train, find_cards()[config.model.arch]
    scan = scan_datasets(
        config.datasets,
        divisor_px=card.divisor_px,
        trigger_word=config.trigger_word,
        reg_weight=train.reg_weight,
        rules=reference_rules(config, card),
    )
    problems = [*beyond_the_model(config, card), *scan.problems, *_sample_problems(config, card)]
    if problems:
        raise JobError(str(job.path), problems)
    _check_multipliers(config)
    what = "full fine-tune" if config.network is None else f"LoRA of rank {config.network.linear}"
    datasets = describe_scan(scan, batch_size=train.batch_size, gradient_accumulation=train.gradient_accumulation)
    samples = f", sample every {config.sample.sample_every}" if sample_items(config) else ""
    saves = f", save every {config.save.save_every}" if config.save.save_every else ""
    return scan, [
        f"{job.name}: {what} of {card.label}, {train.steps} steps{samples}{saves} -> {output_folder}",
        *(f"  {line}" for line in (*datasets, *scan.notices, *_plan(config))),
    ]


def check_disk(
    config: ProcessConfig,
    card: ModelCard,
    examples: Sequence[Example],
    output_folder: Path,
    *,
    num_weights: int | None,
    plan: Plan | None,
    lora_sides: tuple[int, ...] | None = None,
) -> list[str]:
    """Lines on what will be written, and where.

    Args:
        config: the run.
        card: of its model.
        examples: all of them.
        output_folder: of the job.
        num_weights: of the transformer; None: as many as the card says.
        plan: of the memory; None if there is none.
        lora_sides: see `PlanInputs`; None if the model does not list its layers.

    Raises:
        UserError: the folder cannot be written, or its drive has no room for that.
    """
    texts, shape = captions(config, examples, output_folder), card.prompt_embeds_shape
    checkpoints = _checkpoint_bytes(
        config, card.num_parameters if num_weights is None else num_weights, lora_sides=lora_sides
    )
    check_output_folder(output_folder, needed=checkpoints + overflow_bytes(texts, shape))
    sizes = {
        "checkpoints": checkpoints,
        "latents": latents_on_disk(examples, config.datasets, card),
        "captions": captions_bytes(sum(folder is not None for folder in texts.values()), shape),
    }
    return [
        describe_captions(texts, shape, overflow=output_folder / OVERFLOW_CACHE),
        "disk, GB: up to " + ", ".join(f"{name} {gigabytes(size)}" for name, size in sizes.items() if size),
        *([] if plan is None else _quantized_weights(config, plan, output_folder, checkpoints)),
    ]


def _sample_problems(config: ProcessConfig, card: ModelCard) -> list[Problem]:
    items = (*sample_items(config, first=True), *sample_items(config))
    paths = dict.fromkeys(path for item in items for path in item.references)
    return measure_references(tuple(paths), card.reference_limits)[1]


def _check_multipliers(config: ProcessConfig) -> None:
    items = (*sample_items(config), *sample_items(config, first=True))
    if config.network is None and any(item.network_multiplier != 1 for item in items):
        raise UserError("sample.network_multiplier: a full fine-tune has no network to multiply. Remove the key.")


def _checkpoint_bytes(config: ProcessConfig, num_parameters: int, *, lora_sides: tuple[int, ...] | None) -> int:
    train, save, network = config.train, config.save, config.network
    if network is not None and lora_sides is not None:
        num_trained = network.linear * sum(lora_sides)
    else:
        num_trained = most_trained(num_parameters, network.linear if network else None)
    average = 4 if train.ema_config and train.ema_config.use_ema else 0
    return needed_bytes(
        num_trained=num_trained,
        dtype=save.dtype,
        num_kept=save.max_step_saves_to_keep,
        num_saves=train.steps // save.save_every if save.save_every else 1,
        bytes_per_state=4 + MOMENTS[train.optimizer] + average,
    )


def _quantized_weights(config: ProcessConfig, plan: Plan, output_folder: Path, checkpoints: int) -> list[str]:
    """Lines on the quantized weights that will be kept for later starts, which a run can do without."""
    folder = cache_folder(config.model.quantize_cache)
    if folder is None:
        return []
    kinds = quantized_bytes(plan.inputs).items()
    size = sum(
        size
        for (component, qtype), size in kinds
        if find_similar(folder, qtype=qtype, label=f"{config.model.arch}-{component}") is None
    )
    if not size:
        return []
    lines = [f"disk, GB: up to quantized weights {gigabytes(size)} in {folder}, for later starts"]
    is_shared = drive_of(folder) == drive_of(output_folder)
    lacking = lack_of_room(folder, size + checkpoints if is_shared else size)
    if lacking is not None:
        what = "quantized weights and checkpoints do not fit" if is_shared else "quantized weights will not be kept"
        lines.append(f"warning: {what}: {lacking}")
    return lines


def _plan(config: ProcessConfig) -> list[str]:
    try:
        lines = [f"device: {pick_device(config.device)}"]
    except UserError as error:  # the job may be meant for another machine; a run says the same and stops
        lines = [f"warning: {error}"]
    lines.append("stages: encode text (text encoder), encode images (VAE), train (transformer); each is then freed")
    if sample_items(config):
        lines.append("the VAE stays loaded while training: samples are decoded with it")
    if any(dataset.control_folders for dataset in config.datasets):
        lines.append("reference images: encoded once, like the images; their tokens make steps longer")
    if any(dataset.random_crop for dataset in config.datasets):
        lines.append("random_crop: the VAE stays loaded and encodes every batch, so steps take longer")
    return lines
