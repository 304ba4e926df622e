"""How much memory this machine has, or a card that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil

from toolkit.plan.memory_plan import Plan
from toolkit.runtime.device_names import index_of
from toolkit.runtime.device_probe import count_cards, probe_cards
from toolkit.units import GB

# Share of a card's memory that drivers leave to programs: torch reports 0.974 (8 GB cards) to 0.992 (141 GB).
_USABLE_SHARE = 0.975


@dataclass(frozen=True)
class Room:
    """The memory of one more card, in bytes, and how much of it other programs are not using now."""

    name: str
    gpu_bytes: int
    free_gpu_bytes: int


@dataclass(frozen=True)
class Machine:
    """The memory that a run may use, in bytes.

    Attributes:
        name: name of the card, or a description of the machine.
        gpu_bytes: memory of the card; None if there is no card or its memory is unknown.
        free_gpu_bytes: memory of the card that other programs are not using now.
        ram_bytes: RAM of the machine; None if unknown.
        free_ram_bytes: RAM that is free now.
        others: the further cards of a run that splits its model over several.
    """

    name: str
    gpu_bytes: int | None = None
    free_gpu_bytes: int | None = None
    ram_bytes: int | None = None
    free_ram_bytes: int | None = None
    others: tuple[Room, ...] = ()

    def shared_by(self, num_ranks: int) -> Machine:
        """The share of each of several processes, which have a card each; the RAM is that of all."""
        if num_ranks == 1:
            return self
        ram, free = (size and size // num_ranks for size in (self.ram_bytes, self.free_ram_bytes))
        name = f"{self.name}, RAM shared by {num_ranks} ranks"
        return replace(self, name=name, ram_bytes=ram, free_ram_bytes=free)

    def part(self, share: float) -> Machine:
        """A machine with a share of the memory, 0 to 1."""
        gpu, ram = (size and round(share * size) for size in (self.gpu_bytes, self.ram_bytes))
        others = tuple(replace(card, gpu_bytes=round(share * card.gpu_bytes)) for card in self.others)
        return replace(self, gpu_bytes=gpu, ram_bytes=ram, others=others)

    def fits(self, plan: Plan) -> bool:
        """Whether a run fits if all other programs on the machine are closed."""
        rooms = (self.gpu_bytes, *(card.gpu_bytes for card in self.others))
        return _all_fit(plan.card_peaks, rooms) and _fits(plan.peak_ram_bytes, self.ram_bytes)

    def fits_now(self, plan: Plan) -> bool:
        """Whether a run fits alongside the programs that are running now."""
        rooms = (self.free_gpu_bytes, *(card.free_gpu_bytes for card in self.others))
        return _all_fit(plan.card_peaks, rooms) and _fits(plan.peak_ram_bytes, self.free_ram_bytes)

    def rooms(self, num_cards: int) -> tuple[int, ...]:
        """Memory of each of the cards that a model is split over, relative to each other; equal if it is unknown."""
        known = (self.gpu_bytes or 0, *(card.gpu_bytes for card in self.others))
        return known if len(known) == num_cards and all(known) else (1,) * num_cards


def named_card(size_gb: float, *, count: int = 1) -> Machine:
    """One or several cards of `size_gb` GB, as their maker counts them, in a machine with enough RAM."""
    usable = round(size_gb * GB * _USABLE_SHARE)
    name = f"a card of {size_gb:g} GB" if count == 1 else f"{count} cards of {size_gb:g} GB"
    others = tuple(Room(f"a card of {size_gb:g} GB", usable, usable) for _ in range(count - 1))
    return Machine(name, gpu_bytes=usable, free_gpu_bytes=usable, others=others)


def this_machine(device: str, *, is_split: bool = False) -> Machine:
    """This machine, for a job on `device` (a torch device name), or on all cards from the first on."""
    ram = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    free_ram = ram.available + own
    if not device.startswith("cuda"):
        return Machine("this machine", ram_bytes=ram.total, free_ram_bytes=free_ram)
    indices = range(count_cards()) if is_split else [index_of(device)]
    first, *others = map(_room, indices)
    names = [room.name for room in (first, *others)]
    name = names[0] if len(names) == 1 else " + ".join(names) if len(set(names)) > 1 else f"{len(names)} x {names[0]}"
    return Machine(
        name, first.gpu_bytes, first.free_gpu_bytes, ram_bytes=ram.total, free_ram_bytes=free_ram, others=tuple(others)
    )


def _room(index: int) -> Room:
    cards = probe_cards()
    if cards is not None:
        return Room(cards[index].name, cards[index].total_bytes, cards[index].free_bytes)
    import torch  # slow to import, and only needed where the driver alone cannot tell

    free, total = torch.cuda.mem_get_info(index)
    return Room(torch.cuda.get_device_name(index), total, free)


def _all_fit(needed: Sequence[int], available: Sequence[int | None]) -> bool:
    """Whether each card has room. A plan for one device is compared with the first."""
    return all(_fits(one, room) for one, room in zip(needed, available, strict=False))


def _fits(needed: int, available: int | None) -> bool:
    return available is None or needed <= available
