"""Whether a run will be able to upload, as far as this machine can tell before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.config import TrainingProcessConfig
from toolkit.errors import Problem


def hub_problems(config: TrainingProcessConfig) -> list[Problem]:
    """Why an upload at the end would fail. Does not ask the hub, which may be reachable later even if it is not now."""
    if not config.save.push_to_hub:
        return []
    from huggingface_hub import constants  # most jobs upload nothing

    if constants.HF_HUB_OFFLINE:
        return [Problem("save.push_to_hub", "HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it")]
    if not os.environ.get("HF_TOKEN") and not Path(constants.HF_TOKEN_PATH).exists():
        what = "there is no token to upload with. Put `HF_TOKEN=hf_...` into .env, or run `hf auth login`"
        return [Problem("save.push_to_hub", what)]
    return []
