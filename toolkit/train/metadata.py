"""What the header of a saved file says of the job that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from toolkit.version import VERSION

SOFTWARE = "flux2-trainer"


def file_metadata(
    *,
    job_name: str,
    step: int,
    epoch: int,
    base_model: str,
    trigger_word: str | None,
    meta: Mapping[str, Any],
) -> dict[str, str]:
    """Header of a saved file; all values are text, as safetensors demands.

    No rank or alpha stands here: diffusers would rebuild the adapter from them, with ranks that the file does not have.
    """
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
    metadata |= {
        "format": "pt",
        "training_info": json.dumps({"step": step, "epoch": epoch}),
        "ss_output_name": job_name,
        "ss_base_model_version": base_model,
        "software": json.dumps({"name": SOFTWARE, "version": VERSION}),
    }
    if trigger_word:
        metadata["ss_tag_frequency"] = json.dumps({"1": {trigger_word: 1}})
    return metadata
