"""Checks what a training run will write, where, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from toolkit.cards import ModelCard
from toolkit.config import EmaConfig, SaveConfig, TrainingProcessConfig
from toolkit.dtypes import DTYPES
from toolkit.encode.storage import OVERFLOW_CACHE
from toolkit.encode.vision import EncoderFacts, VisionEncoder
from toolkit.optimizers.choices import optimizer_row
from toolkit.output.disk import check_output_folder, drive_of, most_trained, needed_bytes
from toolkit.plan.adapters import count_weights
from toolkit.plan.encoded_size import bytes_on_disk, describe_captions, overflow_bytes
from toolkit.plan.memory_plan import Plan
from toolkit.plan.needs import Needs
from toolkit.plan.phases.stored import quantized_bytes
from toolkit.plan.workload import latents_on_disk, view_bytes
from toolkit.quantize.cache_folder import cache_folder, find_similar, lack_of_room
from toolkit.units import gigabytes


@dataclass(frozen=True)
class Disk:
    """What a run will write to disk.

    Attributes:
        sizes: kind of data -> upper estimate in bytes.
        lines: description for the user.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The sizes as plain JSON."""
        return {f"{name}_bytes": size for name, size in self.sizes.items()}


def check_disk(
    config: TrainingProcessConfig,
    card: ModelCard,
    needs: Needs,
    output_folder: Path,
    *,
    num_weights: int | None,
    plan: Plan | None,
    lora_sides: tuple[int, ...] | None = None,
    fixed_weights: tuple[int, ...] = (),
    encoders: Mapping[VisionEncoder, EncoderFacts] = MappingProxyType({}),
    is_here: bool = True,
) -> Disk:
    """Estimate what a run will write to disk, and check that there is room for it.

    Args:
        config: the run's settings.
        card: card of the run's model.
        needs: the needs of the whole run.
        output_folder: the job's output folder.
        num_weights: number of weights of the transformer; None to use the number on the card.
        plan: the memory plan; None if there is none.
        lora_sides: see `PlanInputs.lora_sides`; None if the model does not list its layers.
        fixed_weights: see `PlanInputs.fixed_weights`.
        encoders: the vision encoders that are on this machine.
        is_here: whether the run will be on this machine; the drives of another one are unknown.

    Raises:
        UserError: the folder cannot be written to, or its drive does not have enough room.
    """
    texts, shape = needs.caption_folders, card.text_shape(is_embedded=config.embeds_text)
    num_parameters = card.num_parameters if num_weights is None else num_weights
    adapters = count_weights(config.adapter, card, encoders)
    checkpoints = _checkpoint_bytes(
        config, num_parameters, num_adapter_weights=adapters, lora_sides=lora_sides, fixed_weights=fixed_weights
    )
    if is_here:
        check_output_folder(output_folder, needed=checkpoints + overflow_bytes(texts, shape))
    sizes = {
        "checkpoints": checkpoints,
        "latents": latents_on_disk(needs, card),
        "views": view_bytes(needs, encoders, on_disk=True),
        "captions": bytes_on_disk(sum(folder is not None for folder in texts.values()), shape),
    }
    lines = (
        describe_captions(texts, shape, overflow=output_folder / OVERFLOW_CACHE),
        _retention(config.save),
        *(_merged(config) if config.train.merge_network_on_save else []),
        "disk, GB: up to " + ", ".join(f"{name} {gigabytes(size)}" for name, size in sizes.items() if size),
        *(_quantized_weights(config, plan, output_folder, checkpoints) if plan is not None and is_here else []),
    )
    return Disk(sizes, lines)


def _retention(save: SaveConfig) -> str:
    """A line on which checkpoints are kept. A setting of 0 keeps all."""
    if not save.is_between:
        return "checkpoints: one, at the end (save.save_every: 0)"
    weights = f"the newest {save.max_step_saves_to_keep}" if save.max_step_saves_to_keep else "all"
    states = f"the newest {save.max_states_to_keep}" if save.max_states_to_keep else "all of these"
    rest = "" if weights == "all" and states == "all of these" else "; older ones are deleted when the next is saved"
    return (
        f"checkpoints: {weights} are kept (save.max_step_saves_to_keep); {states} with the state needed to resume "
        f"(save.max_states_to_keep){rest}"
    )


def _merged(config: TrainingProcessConfig) -> list[str]:
    """A line on files with the network merged in."""
    model, save = config.model, config.save
    what = f"the whole transformer in {save.dtype}, with the network merged in (train.merge_network_on_save)"
    frozen = f"; its weights are those that {model.qtype} keeps, dequantized" if model.quantize else ""
    return [f"files: {what}{frozen}"]


def _checkpoint_bytes(
    config: TrainingProcessConfig,
    num_parameters: int,
    *,
    num_adapter_weights: int,
    lora_sides: tuple[int, ...] | None,
    fixed_weights: tuple[int, ...],
) -> int:
    train, save, network = config.train, config.save, config.network
    num_trained, num_saved = num_adapter_weights + sum(fixed_weights), 0
    if network is not None:
        sides = None if lora_sides is None else network.linear * sum(lora_sides)
        num_trained += most_trained(num_parameters, network.linear) if sides is None else sides
        num_saved = most_trained(num_parameters, None) if train.merge_network_on_save else 0
    elif train.full_finetune:
        num_saved = most_trained(num_parameters, None)
        num_trained += 0 if fixed_weights else num_saved
    ema = train.ema_config or EmaConfig()
    files = 2 if ema.use_ema and ema.save_raw else 1
    snapshots = 4 * (ema.num_averages - ema.use_ema) * num_trained
    best = DTYPES[save.dtype].num_bytes * max(num_trained, num_saved) if save.save_best else 0
    # How many more there will be is not known: at least so many that old ones are deleted.
    at_least = save.max_step_saves_to_keep if save.save_every_epochs or save.save_every_minutes else 1
    return best + needed_bytes(
        save_bytes=DTYPES[save.dtype].num_bytes * files * max(num_trained, num_saved) + snapshots,
        state_bytes=(4 + optimizer_row(train.optimizer).state_bytes + 4 * ema.use_ema) * num_trained,
        num_kept=save.max_step_saves_to_keep,
        num_saves=max(train.steps // save.save_every if save.save_every else 1, at_least),
        num_states=save.max_states_to_keep,
    )


def _quantized_weights(config: TrainingProcessConfig, plan: Plan, output_folder: Path, checkpoints: int) -> list[str]:
    """Lines on the quantized weights that will be cached for later starts. A run can do without this cache."""
    folder = cache_folder(config.model.quantize_cache)
    if folder is None:
        return []
    kinds = [*quantized_bytes(plan.inputs).items()]
    if plan.inputs.preview != "never":  # the weights that samples are drawn on are in a file of their own
        kinds += [(kind, size) for kind, size in kinds if kind[0] == "transformer"]
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
        what = "quantized weights and checkpoints do not fit" if is_shared else "quantized weights will not be cached"
        lines.append(f"warning: {what}: {lacking}")
    return lines
