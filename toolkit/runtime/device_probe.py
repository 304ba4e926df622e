"""Finds the device for a job, and the memory of its card, without importing torch where the driver can answer."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from toolkit.runtime.device_names import index_of, unavailable
from toolkit.runtime.nvidia_smi import DriverCard, driver_cards, find_program

# Device nodes of NVIDIA's and AMD's drivers, and of Windows' inside WSL.
_NODES = ("nvidia*", "kfd", "dxg")


@dataclass(frozen=True)
class Card:
    """A CUDA card as its driver sees it.

    Attributes:
        uuid: `GPU-` and a UUID.
        name: name of the product.
        total_bytes: memory that programs can use: what the driver reserves is left out, as torch leaves it out.
        free_bytes: memory that no program uses now.
    """

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int


def find_device(name: str) -> str:
    """The device for a job, as torch names it.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, as in `pick_device`.

    Raises:
        UserError: the device is not available.
    """
    if name == "cpu":
        return "cpu"
    cards = probe_cards()
    if cards is None:
        from toolkit.runtime.devices import pick_device  # loads torch, which has the final say

        return str(pick_device(name))
    if name == "auto":
        return "cuda" if cards else "cpu"
    if name == "mps" or index_of(name) >= len(cards):
        raise unavailable(name, len(cards))
    return name


def count_cards() -> int:
    """The number of CUDA cards that programs see."""
    cards = probe_cards()
    if cards is None:
        import torch  # slow to import, and only needed where the driver alone cannot tell

        return int(torch.cuda.device_count())
    return len(cards)


def device_of_rank(name: str, *, local_rank: int, local_world: int) -> str:
    """The device for one of the processes that train together, as torch names it: each has a card of its own.

    Args:
        name: as in `find_device`.
        local_rank: number of the process among those of its machine.
        local_world: number of processes on the machine.

    Raises:
        UserError: the device is not available, or cannot be shared.
    """
    found = find_device(name)
    if found == "cpu" or local_world == 1:
        return found
    if found == "mps":
        raise UserError("device: mps cannot be shared by several ranks. Train in one process, or write `device: cpu`.")
    if ":" in name:
        raise UserError(
            f"device: {name} would be used by all {local_world} ranks; `device: auto` gives each rank its own card."
        )
    num_cards = count_cards()
    if num_cards == 1 and "SLURM_LOCALID" in os.environ:
        return "cuda:0"  # Slurm shows each task the card that it is bound to, and no other
    if local_rank >= num_cards:
        raise UserError(
            f"device: {name}: {local_world} ranks were started on this machine, and torch sees {num_cards} CUDA "
            "devices. Start one rank for each, or write `device: cpu`."
        )
    return f"cuda:{local_rank}"


def probe_cards() -> tuple[Card, ...] | None:
    """The cards that torch would find, in its order, without importing it; None if only torch can tell."""
    if "torch" in sys.modules:
        return None  # it costs nothing to ask
    if not may_have_card():
        return ()
    program, build = find_program(), _torch_build()
    if build == "cpu" and sys.platform != "darwin":
        return ()
    if program is None or build != "cuda":
        return None
    found = driver_cards(program)
    return None if found is None else _visible(found, os.environ)


def may_have_card() -> bool:
    """False only if torch cannot find a GPU on this machine."""
    if sys.platform != "linux" or "torch" in sys.modules or find_program():
        return True
    return any(any(Path("/dev").glob(node)) for node in _NODES)


def _visible(found: Sequence[DriverCard], environment: Mapping[str, str]) -> tuple[Card, ...] | None:
    """The cards of a driver that CUDA shows to a program, in CUDA's order; None if that is unknown."""
    cards = []
    for card in found:
        if card.is_sliced or not card.uuid or card.reserved_bytes is None or card.free_bytes is None:
            return None  # a card in slices, or a driver that does not know these words
        cards.append(Card(card.uuid, card.name, card.total_bytes - card.reserved_bytes, card.free_bytes))
    if len({card.name for card in cards}) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return None  # CUDA puts the fastest card first, and only CUDA knows which one that is
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return tuple(cards)
    shown_cards: list[Card] = []
    for entry in map(str.strip, shown.split(",")):
        if entry.startswith("MIG-"):
            return None
        number = int(entry) if entry.isdecimal() else -1
        alike = [card for card in cards if entry.startswith("GPU-") and card.uuid.startswith(entry)]
        one = cards[number] if 0 <= number < len(cards) else alike[0] if len(alike) == 1 else None
        if one is None:
            break  # CUDA reads up to the first entry that names no card
        if one in shown_cards:
            return ()  # and shows none where one is named twice
        shown_cards.append(one)
    return tuple(shown_cards)


def _torch_build() -> str | None:
    """What the installed torch was built for: `cuda` or `cpu`; None if it is something else, or is unknown."""
    try:
        version = Path(str(importlib.metadata.distribution("torch").locate_file("torch/version.py")))
        text = version.read_text(encoding="utf-8")
    except (importlib.metadata.PackageNotFoundError, OSError, UnicodeError):
        return None
    built = {name for name in ("cuda", "hip", "xpu") if re.search(rf"^{name}\b[^=]*= *['\"]", text, re.MULTILINE)}
    if not re.search(r"^cuda\b", text, re.MULTILINE) or built - {"cuda"}:
        return None
    return "cuda" if built else "cpu"
