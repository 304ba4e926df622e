"""A job on pictures of noise, for benchmarks that run the trainer as its users do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image


def write_small_job(
    folder: Path, case: dict[str, Any], *, side_px: int, num_images: int, suffix: str = "png", **sections: Any
) -> Path:
    """Write captioned pictures, and a job file that trains a LoRA of rank 16 on them into `folder/output/case`.

    Args:
        folder: where they are written.
        case: settings by section, over `sections`; one that has `network` is a full fine-tune.
        side_px: width and height of the pictures.
        num_images: number of pictures.
        suffix: format of the pictures.
        sections: sections of the job, and keys beside them.
    """
    images = folder / "images"
    images.mkdir()
    for index in range(num_images):
        Image.effect_noise((side_px, side_px), 60).convert("RGB").save(images / f"{index}.{suffix}")
        (images / f"{index}.txt").write_text(f"a red circle {index}", encoding="utf-8")
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "network": {"type": "lora", "linear": 16},
        "datasets": [{"folder_path": str(images), "resolution": side_px}],
        "save": {"dtype": "bf16"},
        **sections,
    }
    for section in ("model", "train", "save"):
        process[section] = process[section] | case.get(section, {})
    if "network" in case:
        del process["network"]
    job_file = folder / "case.yaml"
    text = yaml.safe_dump({"job": "extension", "config": {"name": "case", "process": [process]}})
    job_file.write_text(text, encoding="utf-8")
    return job_file
