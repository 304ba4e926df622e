"""The kernels that attention can be computed with, and which of them a machine has; loads torch only to ask a card."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice
from toolkit.compute.machine import Machine


@dataclass(frozen=True, kw_only=True)
class AttentionBackend(Choice):
    """One kernel of torch.

    Attributes:
        on_cpu: whether there is one for a CPU.
        capability: lowest compute capability of a CUDA card; None if every card can.
        needs: the hardware in words.
    """

    on_cpu: bool = False
    capability: tuple[int, int] | None = None
    needs: str = "CPU or any GPU"


_KERNEL = "torch.nn.attention:SDPBackend"
NATIVE, AUTO = "native", "auto"
ATTENTION_BACKENDS = {
    NATIVE: AttentionBackend(_KERNEL, summary="torch chooses, for each call", on_cpu=True),
    "flash": AttentionBackend(
        _KERNEL,
        summary="FlashAttention 2; on a CPU, torch's blockwise kernel",
        elsewhere={"_native_flash": "flash"},
        on_cpu=True,
        capability=(8, 0),
        needs="CPU, or an NVIDIA GPU of the RTX 30 series or newer",
    ),
    "cudnn": AttentionBackend(
        _KERNEL,
        summary="cuDNN's, the fastest of these on Hopper",
        elsewhere={"_native_cudnn": "cudnn"},
        capability=(8, 0),
        needs="an NVIDIA GPU of the RTX 30 series or newer",
    ),
    "efficient": AttentionBackend(
        _KERNEL,
        summary="the memory-efficient kernel, which also runs on older cards",
        elsewhere={"_native_efficient": "efficient"},
        capability=(5, 0),
        needs="an NVIDIA GPU",
    ),
    "math": AttentionBackend(
        _KERNEL,
        summary="plain matrix products with all scores in memory at once: exact, slow and memory-hungry",
        elsewhere={"_native_math": "math"},
        on_cpu=True,
    ),
}
ATTENTION_SETTINGS = {
    **ATTENTION_BACKENDS,
    AUTO: Choice(_KERNEL, summary="the fastest on this GPU, measured once and remembered; native elsewhere"),
}
_OWN_PACKAGE = "needs a separate package. torch has `flash`, `cudnn`, `efficient` and `math`"
NOT_HERE = dict.fromkeys(("sage", "xformers", "flex", "_flash_3", "flash_hub", "_flash_3_hub"), _OWN_PACKAGE)


def possible_backends(machine: Machine) -> list[str]:
    """The kernels that a machine has, by name."""
    return [name for name, row in ATTENTION_BACKENDS.items() if _has(machine, row)]


def attention_refusal(setting: str, machine: Machine) -> str | None:
    """Why a machine cannot do what `model.attention_backend` says, and what it can; None if it can."""
    able = possible_backends(machine)
    if setting == AUTO or setting in able:
        return None
    needs = ATTENTION_BACKENDS[setting].needs
    return f"{setting} needs {needs}, and this is {machine.name}. It can: {', '.join((AUTO, *able))}"


def _has(machine: Machine, row: AttentionBackend) -> bool:
    if machine.kind == "cuda":
        assert machine.capability is not None
        return row.capability is None or machine.capability >= row.capability
    if machine.kind == "cpu":
        return row.on_cpu
    return row.on_cpu and row.capability is None
