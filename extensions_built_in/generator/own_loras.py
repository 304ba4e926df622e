"""LoRA files that this trainer has written, judged by their header: it read each back before it kept it."""

from __future__ import annotations

import math
from pathlib import Path

from toolkit.draw.pictures import data_hash
from toolkit.files import read_safetensors_header
from toolkit.lora.header import ARCH, HASH, stated
from toolkit.train.tasks.metadata import SOFTWARE

_MATRICES = (".lora_A.weight", ".lora_B.weight", ".lora_down.weight", ".lora_up.weight")


def verified_weights(path: Path, *, arch: str) -> int | None:
    """Number of weights of a LoRA that this trainer has written for a model, and nobody has changed since.

    Args:
        path: path of the file.
        arch: name of the model.

    Returns:
        At most a few more than drawing holds, where parts of a fused layer share a matrix; None for any other file,
        which has to be read to be judged.
    """
    try:
        header = read_safetensors_header(path)
        metadata = header.pop("__metadata__", {})
        is_ours = stated(metadata, "software").get("name") == SOFTWARE and metadata.get(ARCH) == arch
        if not is_ours or not header or not all(key.endswith(_MATRICES) for key in header):
            return None
        if metadata.get(HASH) != f"0x{data_hash(path)}":
            return None
        count: int = sum(math.prod(entry["shape"]) for entry in header.values())
        return count
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None  # damaged: whoever reads it says how
