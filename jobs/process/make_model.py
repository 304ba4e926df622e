"""Creates the model of a training run, as planned by the check, without loading any weights."""

from __future__ import annotations

from collections.abc import Callable

import torch

from jobs.process.training_checked import TrainingChecked
from toolkit.dtypes import torch_dtype
from toolkit.memory.placement import Split
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.models.pixel_vae import PixelVae
from toolkit.parallel.ranks import Ranks
from toolkit.parallel.weight_layout import WeightLayout, WholeWeights
from toolkit.runtime.devices import make_current, pick_cards, pick_device
from toolkit.runtime.imports.light_imports import quick_imports
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
        model.vae = PixelVae(device, cell_px=config.cell_px)
    return model


def _layout(sharding: str, ranks: Ranks, device: torch.device) -> WeightLayout:
    """Where the weights are. A single process holds all of them, whatever the job says."""
    if sharding == "none" or ranks.world == 1:
        return WholeWeights()
    from toolkit.parallel.shards import Shards  # loads parts of torch that a single process never needs

    return Shards(ranks, device)
