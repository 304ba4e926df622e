"""Creating an optimizer: its kind, its settings, and the groups of its weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.optimizers.choices import optimizer_row
from toolkit.optimizers.own_average import begin_training
from toolkit.optimizers.stored.state import PLACES, RATE
from toolkit.runtime.imports.without_compiler import without_compiler
from toolkit.section import Section

NO_DECAY = "no_decay_if_contains"


def build_optimizer(
    kind: str, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]], *, lr: float, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Create the optimizer of a job.

    Args:
        kind: name of the optimizer, a key of `OPTIMIZERS`.
        parameters: the weights to train, or groups of them as `in_groups` makes them.
        lr: learning rate before any schedule.
        options: the job's `train.optimizer_params`.

    Raises:
        UserError: there is no such class, or it does not accept one of the options.
    """
    row = optimizer_row(kind)
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        chosen = without_compiler(row.load())
    except (ImportError, AttributeError) as error:
        raise UserError(f"train.optimizer: {kind} cannot be imported ({error}).") from error
    try:
        optimizer: torch.optim.Optimizer = chosen(parameters, lr=lr, **options, **row.fixed)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.optimizer_params: {kind} does not accept these ({error}).") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"train.optimizer: {kind} is not a torch.optim.Optimizer.")
    begin_training(optimizer)
    return optimizer


def options_of(params: Section) -> dict[str, Any]:
    """What the constructor of an optimizer takes, of a job's `train.optimizer_params`."""
    return params.model_dump(exclude_none=True, exclude={NO_DECAY})


def without_decay(names: Sequence[str], params: Section) -> frozenset[str]:
    """The names of the weights that a job's `train.optimizer_params` exempts from weight decay.

    Raises:
        UserError: one of the patterns is part of no name.
    """
    patterns: Sequence[str] = getattr(params, NO_DECAY, ())
    for pattern in patterns:
        if not any(pattern in name for name in names):
            raise UserError(
                f'train.optimizer_params.{NO_DECAY}: no trained weight has "{pattern}" in its name. The first one is '
                f"{names[0]}."
            )
    return frozenset(name for name in names if any(pattern in name for pattern in patterns))


def in_groups(
    named: Sequence[tuple[str, nn.Parameter]], rates: Mapping[str, float], no_decay: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The weights in groups of equal settings, in the order of their first weight.

    Args:
        named: the weights by name.
        rates: factors of the learning rate by name; 1 for the others.
        no_decay: names of weights without weight decay.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for place, (name, parameter) in enumerate(named):
        key = rates.get(name, 1.0), name in no_decay
        fresh: dict[str, Any] = {"params": [], PLACES: [], RATE: key[0], **({"weight_decay": 0.0} if key[1] else {})}
        group = groups.setdefault(key, fresh)
        group["params"].append(parameter)
        group[PLACES].append(place)
    return list(groups.values())


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate for the next updates."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(RATE, 1.0)
