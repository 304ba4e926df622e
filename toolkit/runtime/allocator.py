"""How torch takes memory from a card."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

SETTING = "expandable_segments:True"
_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the second is the older name


def grow_segments(environment: MutableMapping[str, str] = os.environ, platform: str = sys.platform) -> None:
    """Let torch grow the pieces of card memory that it holds, unless the user has set its allocator otherwise.

    Call this before torch is imported. By default torch keeps freed pieces for tensors that fit into them. Pictures and
    sequences of many sizes leave pieces that fit nothing: a run whose tensors took at most 8 GB was seen to hold 12 GB,
    which other programs could not use. Windows does not support this, and torch would warn about it.
    """
    if platform == "linux" and not any(name in environment for name in _NAMES):
        environment[_NAMES[0]] = SETTING
