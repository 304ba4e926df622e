"""What a job's frozen weights are multiplied in on a machine, and why; loads torch only to ask a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.compute.choices import AUTO, COMPUTES, Compute

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_UNITS = ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm")  # that multiply 8-bit integers


@dataclass(frozen=True)
class Machine:
    """What computes.

    Attributes:
        kind: of device; `other` is one that is not NVIDIA's, whose 8-bit units have not been tried.
        name: in words.
        capability: compute capability of a CUDA card; None if it is not one.
        has_units: whether a CPU has instructions for 8-bit integers, so that they are faster.
    """

    kind: Literal["cpu", "cuda", "other"]
    name: str
    capability: tuple[int, int] | None = None
    has_units: bool = True

    def can(self, row: Compute) -> bool:
        """Whether products in this format work."""
        if self.kind == "cuda":
            assert self.capability is not None
            return row.capability is None or self.capability >= row.capability
        return not row.is_8_bit or (self.kind == "cpu" and row.on_cpu)


@dataclass(frozen=True)
class Chosen:
    """What products are computed in.

    Attributes:
        name: a key of `COMPUTES`.
        why: the reason, for the setting `auto`.
    """

    name: str
    why: str = ""

    def describe(self) -> str:
        """One line for the user."""
        return f"compute: {self.name}{f' ({self.why})' if self.why else ''}"


def machine_of(device: str) -> Machine:
    """The machine behind a device as torch names it."""
    if device.partition(":")[0] == "cpu":
        return Machine("cpu", "a CPU", has_units=_cpu_has_units())
    if device.partition(":")[0] == "cuda":
        import torch  # slow to import, and the driver's program does not know what torch was built for

        if torch.version.hip is None:
            name = torch.cuda.get_device_name(device)
            return Machine("cuda", name, torch.cuda.get_device_capability(device))
    return Machine("other", device)


def choose_compute(setting: str, qtype: str | None, machine: Machine) -> Chosen:
    """What products are computed in.

    Args:
        setting: a job's `model.compute`.
        qtype: the format of the stored weights; None if they are not quantized.
        machine: what computes.
    """
    if setting != AUTO:
        return Chosen(setting)
    fitting = [name for name, row in COMPUTES.items() if qtype in row.products]
    if not fitting:
        stored = "weights are not quantized" if qtype is None else f"weights are stored as {qtype}"
        return Chosen("bf16", f"{stored}, and 8-bit products take {_list_of_qtypes()}")
    (name,) = fitting
    if not machine.can(COMPUTES[name]):
        return Chosen("bf16", f"{name} needs {COMPUTES[name].needs}, and this is {machine.name}")
    if not machine.has_units:
        return Chosen("bf16", f"this CPU has no instructions for 8-bit integers, so {name} would be slower")
    return Chosen(name, f"weights are stored as {qtype}, which {machine.name} multiplies as they are")


def mistake_of(setting: str, *, quantize: bool, qtype: str) -> str | None:
    """Why a job's `model.compute` does not go with how its weights are stored, and what to set; None if it does."""
    row = COMPUTES.get(setting)
    if row is None or not row.is_8_bit or (quantize and qtype in row.products):
        return None
    stored = f"these are stored as {qtype}" if quantize else "these are not quantized"
    return (
        f"`{setting}` multiplies weights in 8 bits as they are stored, and {stored}: set `model.quantize: true` and "
        f"`model.qtype: {next(iter(row.products))}`, or `model.compute: bf16`"
    )


def refusal(setting: str, machine: Machine) -> str | None:
    """Why a machine cannot do what `model.compute` says, and what it can; None if it can."""
    row = COMPUTES.get(setting)
    if row is None or machine.can(row):
        return None
    able = ", ".join(name for name, other in COMPUTES.items() if machine.can(other))
    return f"{setting} needs {row.needs}, and this is {machine.name}. It can compute in: {able}"


def _list_of_qtypes() -> str:
    return ", ".join(qtype for row in COMPUTES.values() for qtype in row.products)


def _cpu_has_units() -> bool:
    try:
        flags = set(_CPU_INFO.read_text(encoding="utf-8").split())
    except (OSError, UnicodeError):
        return False
    return not flags.isdisjoint(_CPU_UNITS)
