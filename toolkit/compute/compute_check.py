"""Whether this machine can compute as a job's `model` section says, and what `model.compute: auto` chooses."""

from __future__ import annotations

from toolkit.compute.attention_choices import AUTO, NATIVE, attention_refusal
from toolkit.compute.machine import Machine, choose_compute, machine_of, refusal
from toolkit.config import TrainingProcessConfig
from toolkit.errors import Problem, UserError
from toolkit.runtime.device_probe import find_device


def compute_problems(config: TrainingProcessConfig, *, is_here: bool) -> list[Problem]:
    """What keeps the machine from it.

    Args:
        config: the job's training process; one that names a device may be meant for another machine.
        is_here: whether the job is meant for this machine.
    """
    machine, backend = _machine(config) if is_here else None, config.model.attention_backend
    if config.train.context_parallel > 1 and backend in ("efficient", "math"):
        return [
            Problem(
                "model.attention_backend", f"{backend} does not support shared sequences: use native, flash or cudnn"
            )
        ]
    if machine is None:
        return []
    found = {
        "model.compute": refusal(config.model.compute, machine),
        "model.attention_backend": attention_refusal(backend, machine),
    }
    return [Problem(key, why) for key, why in found.items() if why is not None]


def compute_lines(config: TrainingProcessConfig, *, is_here: bool) -> list[str]:
    """One line on what products are computed in; none for the default. The arguments are those above."""
    model, machine = config.model, _machine(config) if is_here else None
    if model.compute == "bf16":
        return []
    if machine is None:
        return [f"compute: {model.compute}; whether the machine can do it is checked where it runs"]
    return [choose_compute(model.compute, model.qtype if model.quantize else None, machine).describe()]


def _machine(config: TrainingProcessConfig) -> Machine | None:
    """The machine that runs the job; None if that is another one, or if nothing needs to be known of it."""
    if config.model.compute == "bf16" and config.model.attention_backend in (AUTO, NATIVE):
        return None
    try:
        return machine_of(find_device(config.device))
    except UserError:  # a run stops with this message
        return None
