"""Whether this machine can multiply frozen weights as the job says, and what `model.compute: auto` chooses."""

from __future__ import annotations

from jobs.process.start import Start
from toolkit.compute.machine import Machine, choose_compute, machine_of, refusal
from toolkit.errors import Problem, UserError


def compute_problems(start: Start) -> list[Problem]:
    """What keeps the machine from it."""
    machine = _machine(start)
    why = None if machine is None else refusal(start.training.model.compute, machine)
    return [] if why is None else [Problem("model.compute", why)]


def compute_lines(start: Start) -> list[str]:
    """One line on what products are computed in; none where the job does not ask for anything but the default."""
    model = start.training.model
    if model.compute == "bf16":
        return []
    machine = _machine(start)
    if machine is None:
        return [f"compute: {model.compute}; whether the machine can do it is checked where it runs"]
    return [choose_compute(model.compute, model.qtype if model.quantize else None, machine).describe()]


def _machine(start: Start) -> Machine | None:
    """The machine that runs the job; None if that is another one, or if nothing needs to be known of it."""
    if start.vram_gb is not None or start.training.model.compute == "bf16":
        return None
    try:
        return machine_of(start.find_device())
    except UserError:  # the job may be meant for another machine; a run stops with this message
        return None
