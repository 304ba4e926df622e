"""Entries of a LoRA file's header; does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping

HASH = "modelspec.hash_sha256"
ARCH = "ss_base_model_version"


def stated(metadata: Mapping[str, str], key: str) -> dict[str, object]:
    """The JSON object under a key of a file header; empty if there is none."""
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
