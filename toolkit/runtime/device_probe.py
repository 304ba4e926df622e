"""Finds the device for a job, without importing torch if the machine shows no GPU that torch could use."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

# Device nodes of NVIDIA's and AMD's drivers, and of Windows' inside WSL.
_NODES = ("nvidia*", "kfd", "dxg")


def find_device(name: str) -> str:
    """The device for a job, as torch names it.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, as in `pick_device`.

    Raises:
        UserError: the device is not available.
    """
    if name == "cpu" or (name == "auto" and not may_have_card()):
        return "cpu"
    from toolkit.runtime.devices import pick_device  # loads torch, which has the final say

    return str(pick_device(name))


def may_have_card() -> bool:
    """False only if torch cannot find a GPU on this machine."""
    if sys.platform != "linux" or "torch" in sys.modules or shutil.which("nvidia-smi"):
        return True
    return any(any(Path("/dev").glob(node)) for node in _NODES)
