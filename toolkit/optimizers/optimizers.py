"""Making an optimizer, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.optimizers.choices import OPTIMIZERS


def build_optimizer(
    kind: str, parameters: Sequence[nn.Parameter], *, lr: float, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer of a job.

    Args:
        kind: a key of `OPTIMIZERS`.
        parameters: what is trained.
        lr: the rate before any schedule.
        options: `train.optimizer_params`.

    Raises:
        UserError: an option that this optimizer does not take.
    """
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        optimizer: torch.optim.Optimizer = OPTIMIZERS[kind].load()(parameters, lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.optimizer_params: {kind} does not take these ({error}).") from error
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next update on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's whole state as tensors named `<index of the weight>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave. Values keep their own dtype: 8-bit moments stay 8 bit.

    Raises:
        UserError: the state is of other weights.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if parameter is None or not _can_be_state_of(parameter, value):
            raise UserError(
                f"the optimizer's state ({key}, of shape {tuple(value.shape)}) is of a job with other trained weights. "
                "Undo that change, or give this job another name."
            )
        device = "cpu" if name == "step" else parameter.device
        optimizer.state[parameter][name] = value.to(device, copy=True)


def _can_be_state_of(parameter: Tensor, value: Tensor) -> bool:
    """One number, or of a shape that an optimizer's state may have beside the weight."""
    shape = tuple(parameter.shape)
    return value.numel() == 1 or any(tuple(value.shape) in row.state_shapes(shape) for row in OPTIMIZERS.values())
