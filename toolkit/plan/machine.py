"""How much memory there is: on this machine, or on a card that the user names."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from toolkit.plan.memory_plan import Plan
from toolkit.units import GB

# Of a card's memory, what drivers leave to programs: torch reports 0.974 (8 GB cards) to 0.992 (141 GB).
_USABLE_SHARE = 0.975


@dataclass(frozen=True)
class Machine:
    """What a run may use, in bytes.

    Attributes:
        gpu_bytes: of the card; None if there is none or it is not known.
        free_gpu_bytes: of them, what no other program holds now.
        ram_bytes: None if it is not known.
        free_ram_bytes: of them, what is free now.
        name: of the card, or what stands for it.
    """

    name: str
    gpu_bytes: int | None = None
    free_gpu_bytes: int | None = None
    ram_bytes: int | None = None
    free_ram_bytes: int | None = None

    def fits(self, plan: Plan) -> bool:
        """Whether a run has room, everything else on the machine closed."""
        return _fits(plan.peak_gpu_bytes, self.gpu_bytes) and _fits(plan.peak_ram_bytes, self.ram_bytes)

    def fits_now(self, plan: Plan) -> bool:
        """Whether a run has room beside what else is running."""
        return _fits(plan.peak_gpu_bytes, self.free_gpu_bytes) and _fits(plan.peak_ram_bytes, self.free_ram_bytes)


def named_card(size_gb: float) -> Machine:
    """A card of so many GB as its maker counts them, in a machine with RAM enough."""
    usable = round(size_gb * GB * _USABLE_SHARE)
    return Machine(f"a card of {size_gb:g} GB", gpu_bytes=usable, free_gpu_bytes=usable)


def this_machine(device: str) -> Machine:
    """The machine that this runs on, for a job on `device` (a torch device name)."""
    ram = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    free_ram = ram.available + own
    if not device.startswith("cuda"):
        return Machine("this machine", ram_bytes=ram.total, free_ram_bytes=free_ram)
    import torch  # slow to import, and only needed where there is a card

    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return Machine(name, gpu_bytes=total, free_gpu_bytes=free, ram_bytes=ram.total, free_ram_bytes=free_ram)


def _fits(needed: int, there: int | None) -> bool:
    return there is None or needed <= there
