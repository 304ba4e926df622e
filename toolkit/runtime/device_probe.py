"""Which device a job gets, without torch where the machine has no card that torch could see."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

# Device nodes of NVIDIA's and AMD's drivers, and of Windows' inside WSL.
_NODES = ("nvidia*", "kfd", "dxg")


def find_device(name: str) -> str:
    """The device of a job, as torch names it.

    Args:
        name: as for `pick_device`.

    Raises:
        UserError: it is not there.
    """
    if name == "cpu" or (name == "auto" and not may_have_card()):
        return "cpu"
    from toolkit.runtime.devices import pick_device  # loads torch, whose word it is

    return str(pick_device(name))


def may_have_card() -> bool:
    """False only if torch cannot find a card here."""
    if sys.platform != "linux" or "torch" in sys.modules or shutil.which("nvidia-smi"):
        return True
    return any(any(Path("/dev").glob(node)) for node in _NODES)
