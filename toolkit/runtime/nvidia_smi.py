"""What NVIDIA's driver says about its cards, by its program `nvidia-smi`: asked once for all callers."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

FRESH_S = 2.0  # a check asks several times, and so does whoever types
TIMEOUT_S = 20.0  # without a persistence daemon the driver wakes every card first
_COLUMNS = (
    "index",
    "name",
    "memory.total",
    "memory.used",
    "utilization.gpu",
    "temperature.gpu",
    "power.draw",
    "uuid",
    "mig.mode.current",
    "memory.reserved",
    "memory.free",
)
_NUM_OLD = 7  # of them every driver knows these; it refuses a question that has a word it does not know
_MIB = 1 << 20

_lock = threading.Lock()
_answers: dict[str, tuple[float, tuple[DriverCard, ...] | None]] = {}


@dataclass(frozen=True)
class DriverCard:
    """A card as its driver sees it now. What it does not say is None.

    Attributes:
        index: its number, in the order of the PCI bus.
        name: name of the product.
        total_bytes: memory on the card.
        used_bytes, free_bytes: memory that programs use, and that no program uses.
        reserved_bytes: memory that the driver keeps for itself.
        load: share of the last moments in which the card worked, 0 to 1.
        temperature_c: in degrees Celsius.
        power_w: in watts.
        uuid: `GPU-` and a UUID; empty if an old driver does not say.
        is_sliced: whether it is in MIG mode: programs then see slices of it.
    """

    index: int
    name: str
    total_bytes: int
    used_bytes: int | None = None
    load: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    uuid: str = ""
    is_sliced: bool = False
    reserved_bytes: int | None = None
    free_bytes: int | None = None


def find_program() -> str | None:
    """Where `nvidia-smi` is; None on a machine without it."""
    return shutil.which("nvidia-smi")


def driver_cards(program: str, *, timeout_s: float = TIMEOUT_S) -> tuple[DriverCard, ...] | None:
    """Every card, in the driver's order; asked at most every two seconds.

    Args:
        program: path of `nvidia-smi`.
        timeout_s: how long to wait for it.

    Returns:
        None if the driver does not answer, or in words that are not understood.
    """
    with _lock:
        asked_at, cards = _answers.get(program, (-FRESH_S, None))
        if program not in _answers or time.monotonic() - asked_at >= FRESH_S:
            cards = _ask(program, timeout_s)
            _answers[program] = time.monotonic(), cards
        return cards


def _ask(program: str, timeout_s: float) -> tuple[DriverCard, ...] | None:
    for columns in (_COLUMNS, _COLUMNS[:_NUM_OLD]):
        command = [program, f"--query-gpu={','.join(columns)}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, errors="replace"
            )
        except (OSError, subprocess.SubprocessError):
            return None
        if done.returncode == 0:
            return _cards(done.stdout, len(columns))
    return None


def _cards(text: str, num_columns: int) -> tuple[DriverCard, ...] | None:
    cards = []
    for line in filter(str.strip, text.splitlines()):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != num_columns or not parts[0].isdecimal() or (total := _bytes(parts[2])) is None:
            return None
        load, temperature, power = map(_figure, parts[4:_NUM_OLD])
        uuid, sliced, reserved, free = parts[_NUM_OLD:] or ("", "", "", "")
        cards.append(
            DriverCard(
                index=int(parts[0]),
                name=parts[1],
                total_bytes=total,
                used_bytes=_bytes(parts[3]),
                load=None if load is None else load / 100,
                temperature_c=temperature,
                power_w=power,
                uuid=uuid,
                is_sliced=sliced == "Enabled",
                reserved_bytes=_bytes(reserved),
                free_bytes=_bytes(free),
            )
        )
    return tuple(cards)


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A]
        return None


def _bytes(text: str) -> int | None:
    mebibytes = _figure(text)
    return None if mebibytes is None or not 0 <= mebibytes < 1e12 else round(mebibytes * _MIB)
