"""What a picture of a drawing job says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from toolkit.config import SampleItem
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.train.tasks.metadata import SOFTWARE, published_name
from toolkit.train.tasks.sample_info import item_info
from toolkit.version import VERSION


def picture_info(item: SampleItem, drawing: GenerateProcessConfig, redact: Callable[[str], str]) -> dict[str, Any]:
    """What to write into a picture.

    Args:
        item: what was drawn, with the seed that it was drawn with.
        drawing: the settings of the job.
        redact: removes secrets from a text.
    """
    return item_info(item, redact) | {
        "base_model": json.dumps({"name": redact(published_name(drawing.model.name_or_path))}),
        "loras": [{"name": redact(one.path.stem), "weight": one.weight} for one in drawing.loras],
        "software": json.dumps({"name": SOFTWARE, "version": VERSION}),
    }
