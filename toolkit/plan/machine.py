"""How much memory this machine has, or a card that the user names."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psutil

from toolkit.plan.memory_plan import Plan
from toolkit.runtime.device_names import index_of
from toolkit.runtime.device_probe import probe_cards
from toolkit.units import GB

# Share of a card's memory that drivers leave to programs: torch reports 0.974 (8 GB cards) to 0.992 (141 GB).
_USABLE_SHARE = 0.975


@dataclass(frozen=True)
class Machine:
    """The memory that a run may use, in bytes.

    Attributes:
        name: name of the card, or a description of the machine.
        gpu_bytes: memory of the card; None if there is no card or its memory is unknown.
        free_gpu_bytes: memory of the card that other programs are not using now.
        ram_bytes: RAM of the machine; None if unknown.
        free_ram_bytes: RAM that is free now.
    """

    name: str
    gpu_bytes: int | None = None
    free_gpu_bytes: int | None = None
    ram_bytes: int | None = None
    free_ram_bytes: int | None = None

    def shared_by(self, num_ranks: int) -> Machine:
        """The share of each of several processes, which have a card each; the RAM is that of all."""
        if num_ranks == 1:
            return self
        ram, free = (size and size // num_ranks for size in (self.ram_bytes, self.free_ram_bytes))
        name = f"{self.name}, RAM shared by {num_ranks} ranks"
        return replace(self, name=name, ram_bytes=ram, free_ram_bytes=free)

    def fits(self, plan: Plan) -> bool:
        """Whether a run fits if all other programs on the machine are closed."""
        return _fits(plan.peak_gpu_bytes, self.gpu_bytes) and _fits(plan.peak_ram_bytes, self.ram_bytes)

    def fits_now(self, plan: Plan) -> bool:
        """Whether a run fits alongside the programs that are running now."""
        return _fits(plan.peak_gpu_bytes, self.free_gpu_bytes) and _fits(plan.peak_ram_bytes, self.free_ram_bytes)


def named_card(size_gb: float) -> Machine:
    """A card of `size_gb` GB, as its maker counts them, in a machine with enough RAM."""
    usable = round(size_gb * GB * _USABLE_SHARE)
    return Machine(f"a card of {size_gb:g} GB", gpu_bytes=usable, free_gpu_bytes=usable)


def this_machine(device: str) -> Machine:
    """This machine, for a job on `device` (a torch device name)."""
    ram = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    free_ram = ram.available + own
    if not device.startswith("cuda"):
        return Machine("this machine", ram_bytes=ram.total, free_ram_bytes=free_ram)
    cards = probe_cards()
    if cards is not None:
        card = cards[index_of(device)]
        return Machine(card.name, card.total_bytes, card.free_bytes, ram_bytes=ram.total, free_ram_bytes=free_ram)
    import torch  # slow to import, and only needed where the driver alone cannot tell

    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return Machine(name, gpu_bytes=total, free_gpu_bytes=free, ram_bytes=ram.total, free_ram_bytes=free_ram)


def _fits(needed: int, available: int | None) -> bool:
    return available is None or needed <= available
