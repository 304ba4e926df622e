"""Lets the frozen layers of a module multiply in 8 bits."""

from __future__ import annotations

from torch import nn

from toolkit.compute.choices import COMPUTES
from toolkit.compute.machine import choose_compute, machine_of, mistake_of, refusal
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.quantize.frozen_linear import FrozenLinear


def use_compute(module: nn.Module, name: str) -> int:
    """Let the quantized layers of a module multiply as a row of `COMPUTES` says.

    Returns:
        The number of layers that multiply in 8 bits.
    """
    row = COMPUTES[name]
    layers = [layer for layer in module.modules() if isinstance(layer, FrozenLinear)]
    for layer in layers:
        layer.product = row.product_for(layer.qtype) if row.is_8_bit else None
    return len(layers) if row.is_8_bit else 0


def compute_as(config: ModelConfig, module: nn.Module, device: str) -> None:
    """Let a loaded transformer multiply as the `model` section says.

    Args:
        config: the `model` section of the job.
        module: the transformer.
        device: the device that it runs on, as torch names it.

    Raises:
        UserError: the machine or the stored weights do not allow it. A check says so before.
    """
    if config.compute == "bf16":
        return
    machine = machine_of(device)
    mistake = mistake_of(config.compute, quantize=config.quantize, qtype=config.qtype)
    if (mistake := mistake or refusal(config.compute, machine)) is not None:
        raise UserError(f"model.compute: {mistake}.")
    use_compute(module, choose_compute(config.compute, config.qtype if config.quantize else None, machine).name)
