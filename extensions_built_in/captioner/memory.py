"""What a captioning job takes, estimated from the headers of the model's files before any of it is loaded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.config.captioning.settings import CaptionConfig
from toolkit.dtypes import DTYPES
from toolkit.plan.machine import Machine
from toolkit.quantize.qtypes import bits_of
from toolkit.units import gigabytes
from toolkit.weights.headers import read_shapes

_WORK_SHARE, _WORK_BYTES = 0.15, 1 << 30  # pictures, tokens and their cache: of models of 0.2 to 8 B weights, estimated
_PROCESS_BYTES = 1 << 30  # Python and its libraries
_KEPT = ("embed", "lm_head")  # stay as they are with `quantize`


@dataclass(frozen=True)
class CaptionMemory:
    """The memory of a captioning job, which loads its model into RAM first and then moves it.

    Attributes:
        device: kind of device.
        machine: that it is compared with.
        loaded_bytes: of the weights as they are loaded.
        stored_bytes: of the weights on the device.
    """

    device: str
    machine: Machine
    loaded_bytes: int
    stored_bytes: int

    @property
    def work_bytes(self) -> int:
        """Beside the weights while captions are made."""
        return _WORK_BYTES + round(_WORK_SHARE * self.stored_bytes)

    @property
    def gpu_bytes(self) -> int:
        """The most of a card; 0 without one."""
        return 0 if self.device == "cpu" else self.stored_bytes + self.work_bytes

    @property
    def ram_bytes(self) -> int:
        """The most of RAM."""
        work = self.work_bytes if self.device == "cpu" else 0
        return _PROCESS_BYTES + max(self.loaded_bytes, self.stored_bytes + work if work else 0)

    def lack(self, *, can_quantize: bool) -> str:
        """Why it does not fit, and what to do; empty if it fits, or if that is not known."""
        gpu = ("GPU memory", self.gpu_bytes, self.machine.gpu_bytes)
        for name, needed, there in (gpu, ("RAM", self.ram_bytes, self.machine.ram_bytes)):
            if there is not None and needed > there:
                way = "Set caption.quantize: true, or choose" if can_quantize and name != "RAM" else "Choose"
                return (
                    f"memory: the model needs about {gigabytes(needed)} GB of {name}, and {self.machine.name} has "
                    f"{gigabytes(there)} GB. {way} a smaller model."
                )
        return ""

    def describe(self) -> str:
        """The plan's line."""
        gpu = f"{gigabytes(self.gpu_bytes)} GB of GPU memory and " if self.gpu_bytes else ""
        return f"memory: about {gpu}{gigabytes(self.ram_bytes)} GB of RAM"

    def as_json(self) -> dict[str, Any]:
        """As `jobs.check_json` describes it."""
        ram = _PROCESS_BYTES + self.loaded_bytes
        parts = {"model": self.stored_bytes, "work": self.work_bytes}
        return {
            "device": self.device,
            "fits": not self.lack(can_quantize=False),
            "peak_gpu_bytes": self.gpu_bytes,
            "peak_ram_bytes": self.ram_bytes,
            "card_peaks": (self.gpu_bytes,),
            "split": None,
            "phases": [
                _phase("load", 0, ram, {"model": self.loaded_bytes}),
                _phase("caption", self.gpu_bytes, self.ram_bytes, parts),
            ],
            "machine": asdict(self.machine),
            "ways": [],
        }


def _phase(name: str, gpu: int, ram: int, parts: dict[str, int]) -> dict[str, Any]:
    return {"name": name, "stage": name, "gpu_bytes": gpu, "card_bytes": (gpu,), "ram_bytes": ram, "parts": parts}


def memory_of(folder: Path, config: CaptionConfig, *, device: str, machine: Machine) -> CaptionMemory:
    """What a job with the model in a folder takes.

    Args:
        folder: of the model.
        config: how it is stored.
        device: `cuda`, `mps` or `cpu`.
        machine: what it may use.

    Raises:
        UserError: a file of weights is damaged.
    """
    width = DTYPES[config.dtype].num_bytes
    loaded = stored = 0.0
    for name, shape in read_shapes(sorted(folder.glob("*.safetensors"))).items():
        is_fewer = config.quantize and len(shape) == 2 and not any(part in name for part in _KEPT)
        loaded += math.prod(shape) * width
        stored += math.prod(shape) * (bits_of(config.qtype, width) / 8 if is_fewer else width)
    return CaptionMemory(device, machine, round(loaded), round(stored))
