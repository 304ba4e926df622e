"""Creating an optimizer, and saving and restoring its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.optimizers.choices import OPTIMIZERS

RATE = "rate_factor"  # of a group: its learning rate is so many times the job's


def build_optimizer(
    kind: str, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]], *, lr: float, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Create the optimizer of a job.

    Args:
        kind: name of the optimizer, a key of `OPTIMIZERS`.
        parameters: the weights to train, or groups of them as `by_rate` makes them.
        lr: learning rate before any schedule.
        options: the job's `train.optimizer_params`.

    Raises:
        UserError: the optimizer does not accept one of the options.
    """
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        optimizer: torch.optim.Optimizer = OPTIMIZERS[kind].load()(parameters, lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.optimizer_params: {kind} does not accept these ({error}).") from error
    return optimizer


def by_rate(named: Sequence[tuple[str, nn.Parameter]], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """The weights in groups of equal factors of the learning rate, in the order of their first weight.

    Args:
        named: the weights by name.
        rates: factors of the learning rate by name; 1 for the others.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        groups.setdefault(rates.get(name, 1.0), []).append(parameter)
    return [{"params": parameters, RATE: factor} for factor, parameters in groups.items()]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate for the next updates."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(RATE, 1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's whole state as tensors named `<index of the weight>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned. Values keep their dtype: 8-bit moments stay 8-bit.

    Raises:
        UserError: the state belongs to other weights.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if parameter is None or not _can_be_state_of(parameter, value):
            raise UserError(
                f"the optimizer's state ({key}, shape {tuple(value.shape)}) was saved by a job that trains other "
                "weights. Undo that change, or give this job another name."
            )
        device = "cpu" if name == "step" else parameter.device
        optimizer.state[parameter][name] = value.to(device, copy=True)


def _can_be_state_of(parameter: Tensor, value: Tensor) -> bool:
    """Whether a value is a single number, or has a shape that some optimizer's state can have for this weight."""
    shape = tuple(parameter.shape)
    return value.numel() == 1 or any(tuple(value.shape) in row.state_shapes(shape) for row in OPTIMIZERS.values())
