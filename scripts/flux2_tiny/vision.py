"""Write a tiny SigLIP vision encoder with random weights: enough to tell images apart, for tests and toy jobs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}
PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "do_resize": True,
    "size": {"height": 64, "width": 64},
    "resample": 3,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def write_vision_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Write the encoder in the layout of released ones, 0.6 MB, unless the folder has it. Returns the folder.

    Args:
        folder: the folder, which is created.
        seed: seed of the weights. The global generator is left as it was.
    """
    if (folder / "preprocessor_config.json").is_file():  # written last
        return folder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SiglipVisionModel(SiglipVisionConfig(**CONFIG)).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2), encoding="utf-8")
    return folder


if __name__ == "__main__":
    print(write_vision_encoder(Path(sys.argv[1])))
