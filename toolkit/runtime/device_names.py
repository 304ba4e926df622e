"""Torch's names of devices, and what to say where one is not there; imports no torch."""

from __future__ import annotations

from toolkit.errors import UserError


def index_of(device: str) -> int:
    """The number of a card in a torch device name; `cuda` is the first."""
    return int(device.partition(":")[2] or 0)


def unavailable(name: str, num_cards: int) -> UserError:
    """The refusal of a device that is not there."""
    auto = "`device: auto` uses the best available device."
    if name == "mps":
        return UserError(f"device: mps is not available. {auto}")
    return UserError(f"device: {name} is not available; torch sees {num_cards} CUDA devices. {auto}")
