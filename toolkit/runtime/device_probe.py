"""Finds the device for a job, and the memory of its card, without importing torch where the driver can answer."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.runtime.device_names import index_of, unavailable

# Device nodes of NVIDIA's and AMD's drivers, and of Windows' inside WSL.
_NODES = ("nvidia*", "kfd", "dxg")
_QUERY = "index,uuid,name,mig.mode.current,memory.total,memory.reserved,memory.free"
_MIB = 1 << 20
_TIMEOUT_S = 20.0  # without a persistence daemon the driver wakes every card first
_FRESH_S = 2.0  # a check asks several times, and typing in the page checks again and again

_lock = threading.Lock()
_answer: tuple[float, str, str | None] | None = None


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


def probe_cards() -> tuple[Card, ...] | None:
    """The cards that torch would find, in its order, without importing it; None if only torch can tell."""
    if "torch" in sys.modules:
        return None  # it costs nothing to ask
    if not may_have_card():
        return ()
    program, build = shutil.which("nvidia-smi"), _torch_build()
    if build == "cpu" and sys.platform != "darwin":
        return ()
    if program is None or build != "cuda":
        return None
    text = _ask(program)
    return None if text is None else _visible(text, os.environ)


def may_have_card() -> bool:
    """False only if torch cannot find a GPU on this machine."""
    if sys.platform != "linux" or "torch" in sys.modules or shutil.which("nvidia-smi"):
        return True
    return any(any(Path("/dev").glob(node)) for node in _NODES)


def _ask(program: str) -> str | None:
    """The driver's table of its cards; None if it does not answer."""
    global _answer
    with _lock:
        if _answer is not None and _answer[1] == program and time.monotonic() - _answer[0] < _FRESH_S:
            return _answer[2]
        command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
        text = None
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, errors="replace"
            )
            text = done.stdout if done.returncode == 0 else None
        except (OSError, subprocess.SubprocessError):
            pass
        _answer = time.monotonic(), program, text
        return text


def _visible(text: str, environment: Mapping[str, str]) -> tuple[Card, ...] | None:
    """The cards of a driver's table that CUDA shows to a program, in CUDA's order; None if that is unknown."""
    cards = []
    for line in filter(str.strip, text.splitlines()):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 7 or parts[3] == "Enabled" or not all(part.isdecimal() for part in parts[4:]):
            return None  # a card in slices, or a driver that does not know these words
        total, reserved, free = (int(part) * _MIB for part in parts[4:])
        cards.append(Card(parts[1], parts[2], total - reserved, free))
    if len({card.name for card in cards}) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return None  # CUDA puts the fastest card first, and only CUDA knows which one that is
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return tuple(cards)
    found: list[Card] = []
    for entry in map(str.strip, shown.split(",")):
        if entry.startswith("MIG-"):
            return None
        number = int(entry) if entry.isdecimal() else -1
        alike = [card for card in cards if entry.startswith("GPU-") and card.uuid.startswith(entry)]
        card = cards[number] if 0 <= number < len(cards) else alike[0] if len(alike) == 1 else None
        if card is None:
            break  # CUDA reads up to the first entry that names no card
        if card in found:
            return ()  # and shows none where one is named twice
        found.append(card)
    return tuple(found)


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
