"""Creates the model of a training run as planned by the check, and chooses what its blocks compute with."""

from __future__ import annotations

from collections.abc import Callable

import torch

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.compute.attention import choose_attention, shape_of
from toolkit.compute.attention_choices import AUTO, NATIVE
from toolkit.compute.compiler import Compiler
from toolkit.compute.machine import machine_of
from toolkit.dtypes import torch_dtype
from toolkit.memory.placement import Split
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.parallel.ranks import Ranks
from toolkit.parallel.weight_layout import WeightLayout, WholeWeights
from toolkit.quantize.cache_folder import compiled_folder, trainer_cache
from toolkit.runtime.devices import make_current, pick_cards, pick_device
from toolkit.runtime.imports.light_imports import quick_imports
from toolkit.train.resume import ResumePlan
from toolkit.train.run_facts import ATTENTION
from toolkit.util.get_model import get_model_class


def make_model(
    checked: TrainingChecked,
    *,
    notify: Callable[[str], None],
    count: Callable[[int, int, str], None] = lambda done, total, unit: None,
) -> BaseModel:
    """Create the model for the job's device.

    Args:
        checked: the result of the check; its memory plan determines how much of the model is offloaded.
        notify: called with lines for the user on how a component was loaded.
        count: called with how many parts of a component are loaded, of how many, and what they are.

    Raises:
        UserError: the device is not available.
    """
    config, train, shares, counts = checked.config, checked.config.train, None, None
    if checked.memory is not None:
        inputs, counts = checked.memory.plan.inputs, checked.memory.plan.split
        shares = {"transformer": inputs.offloaded, "text_encoder": inputs.te_offloaded}
    device = pick_device(checked.start.find_device())
    split = Split(pick_cards(device), counts) if config.model.split_model_over_gpus else None
    device = device if split is None else split.cards[0]
    trained_dtype = torch_dtype("fp32" if train.full_finetune_weights == "fp32" else "bf16")
    options = ModelOptions(
        transformer_dtype=trained_dtype if train.full_finetune else None,
        notify=notify,
        count=count,
        offload_shares=shares,
        split=split,
        card=checked.card,
        embeds_text=config.embeds_text,
        without=config.without,
        layout=_layout(config.train.sharding, checked.start.ranks, device),
    )
    with quick_imports():
        model_class = get_model_class(config.model)
    model = model_class(config.model, device=device, dtype=torch_dtype(train.dtype), options=options)
    make_current(device)
    if config.cell_px is not None:
        model.use_pixel_vae(config.cell_px)
    return model


def choose_kernel(checked: TrainingChecked, model: BaseModel, out: Output, resume: ResumePlan) -> None:
    """Let the loaded transformer use the kernel that the job or its checkpoint names, or the one that measures fastest.

    Its longest sequence is that of the largest bucket, without references. Several processes use torch's choice unless
    the job names another, since each might measure something else.

    Raises:
        UserError: the machine does not have the kernel that the job names.
    """
    setting, world = checked.config.model.attention_backend, checked.start.ranks.world
    sizes = [size for table in checked.scan.tables for size in table.buckets]
    tokens = max(model.num_tokens(*size) for size in sizes) + checked.card.prompt_embeds_shape[0]
    shape = shape_of(model.transformer, tokens, model.dtype)
    if shape is None or (world > 1 and setting == AUTO):
        return
    recorded = resume.bundle.manifest.get(ATTENTION) if resume.bundle else None
    chosen = choose_attention(
        setting,
        shape,
        machine_of(str(model.device)),
        model.device,
        folder=trainer_cache() / "attention",
        recorded=recorded or None,
    )
    if chosen.name != NATIVE or setting != AUTO:
        out.stages.info(chosen.describe())
    model.use_attention_kernel(chosen.name)


def compile_if_asked(checked: TrainingChecked, model: BaseModel, out: Output) -> None:
    """Compile what the blocks compute, if the job says so; what is not compiled is reported."""
    if checked.config.model.compile:
        folder = compiled_folder(checked.config.model.quantize_cache)
        model.compile_blocks(Compiler(notify=out.stages.info, warn=out.stages.warn, folder=folder))


def _layout(sharding: str, ranks: Ranks, device: torch.device) -> WeightLayout:
    """Where the weights are. A single process holds all of them, whatever the job says."""
    if sharding == "none" or ranks.world == 1:
        return WholeWeights()
    from toolkit.parallel.shards import Shards  # loads parts of torch that a single process never needs

    return Shards(ranks, device)
