"""Drawing jobs with the tiny model, and LoRA files for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tests.tiny import TINY, tiny_model
from toolkit.lora.update import Update


def write_lora(path: Path, *, seed: int, file_format: str = "bfl", size: float = 0.15) -> Path:
    """A random LoRA of rank 2 on all layers of the tiny model's blocks."""
    generator = torch.Generator().manual_seed(seed)
    model, updates = tiny_model(), {}
    for target in model.plan_lora_targets():
        if not target.is_optional and "blocks" in target.name:
            a = torch.randn(2, target.inputs, generator=generator) * size
            updates[target.name] = Update(a, torch.randn(target.outputs, 2, generator=generator) * size)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.write_lora(updates, file_format), path)
    return path


def write_drawing(folder: Path, *, generate: dict[str, Any], name: str = "draw", **process: Any) -> Path:
    """A job that draws small pictures with the tiny model."""
    entry = {
        "type": "to_folder",
        "output_folder": str(folder / "pictures"),
        "device": "cpu",
        "dtype": "fp32",
        "model": {"name_or_path": str(TINY), "arch": "flux2_tiny"},
        "generate": {"width": 32, "height": 32, "sample_steps": 2, "prompts": ["a red circle"], **generate},
        **process,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"job": "generate", "config": {"name": name, "process": [entry]}}))
    return path


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal to noise ratio of two pictures, in dB."""
    a, b = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (one, other))
    return float(10 * np.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-9)))
