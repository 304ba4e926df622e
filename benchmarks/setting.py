"""What a result says of the machine that it was measured on."""

from __future__ import annotations

import os
import platform


def machine() -> str:
    """The processor, in few words."""
    return f"{os.cpu_count()} cores, {platform.machine()}"


def setting(*, on_card: bool) -> dict[str, str]:
    """What stands at the head of a result: the device, the machine and torch's version."""
    import torch

    device = torch.cuda.get_device_name() if on_card else "cpu"
    return {"device": device, "machine": machine(), "torch": torch.__version__}
