"""Keys that ai-toolkit's `job: extract` has beside `process`, for all processes of the job."""

from __future__ import annotations

from typing import Any

_SHARED = {"base_model": "base_model", "extract_model": "extract_model", "output_folder": "training_folder"}
_SHARED |= {key: key for key in ("dtype", "is_v2", "is_v_pred", "is_xl")}


def share_with_processes(tree: dict[str, Any]) -> None:
    """Move the keys into each process that does not have them, in place."""
    config = tree.get("config")
    if str(tree.get("job")).strip().lower() != "extract" or not isinstance(config, dict):
        return
    processes = config.get("process")
    for key, own in _SHARED.items():
        value = config.pop(key, None)
        for entry in processes if isinstance(processes, list) and value is not None else ():
            if isinstance(entry, dict):
                entry.setdefault(own, value)
