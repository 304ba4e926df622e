"""What a picture says about itself as other programs read it: the text that the web UI of AUTOMATIC1111 writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def parameters_text(info: Mapping[str, Any]) -> str:
    """Prompt, negative prompt, and one line of settings; empty if nothing is known.

    Args:
        info: what the picture says about itself, see `sample_info`.
    """
    if "prompt" not in info:
        return ""
    loras = info.get("loras", [])
    tags = "".join(f" <lora:{one['name']}:{one['weight']:g}>" for one in loras)
    lines = [f"{info['prompt']}{tags}"]
    if info.get("neg"):
        lines.append(f"Negative prompt: {info['neg']}")
    settings = {
        "Steps": info.get("sample_steps"),
        "Sampler": "Euler",
        "CFG scale": info.get("guidance_scale"),
        "Seed": info.get("seed"),
        "Size": f"{info['width']}x{info['height']}" if "width" in info and "height" in info else None,
        "Model": _model(info),
        "Lora hashes": '"' + ", ".join(f"{one['name']}: {one['hash']}" for one in loras) + '"' if loras else None,
    }
    lines.append(", ".join(f"{key}: {value}" for key, value in settings.items() if value is not None))
    return "\n".join(lines)


def _model(info: Mapping[str, Any]) -> str | None:
    """The name of the base model."""
    try:
        found = json.loads(info.get("base_model", "{}")).get("name")
    except (ValueError, AttributeError, TypeError):
        return None
    return None if found is None else str(found).rpartition("/")[2]
