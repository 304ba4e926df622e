"""Jobs that several processes, or several cards, must train as one does: what they have is not alike in every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.flux2_tiny.vision import write_vision_encoder
from tests.tiny import write_dataset

Sections = dict[str, Any]
Make = Callable[[Path], Sections]
VIEWS = "ip+, subpixel, preservation"
COUNT = 5  # of examples: with batches of two, every third is short
NETWORKS: Sections = {
    "type": "lora",
    "linear": 4,
    "loraplus_lr_ratio": 2.0,
    "patterns": [
        {"contains": "img_attn", "type": "lokr", "lr": 2e-3},
        {"contains": "txt_attn", "type": "loha"},
        {"contains": "img_mlp", "type": "dora", "lr": 2e-3},
        {"contains": "txt_mlp", "type": "oft"},
        {"contains": "linear1", "type": "fullrank"},
    ],
}
SLIDER = {"positive_prompt": "a large shape", "negative_prompt": "a small shape", "target_class": "a shape"}


def networks_and_masks(folder: Path) -> Sections:
    """Every kind of network, at two rates, with masks."""
    masks = folder / "masks"
    masks.mkdir(exist_ok=True)
    for index in range(COUNT):
        image = Image.new("L", (32, 32))
        image.paste(255, (0, 0, 8 + 4 * index, 32))
        image.save(masks / f"{index}.png")
    return {
        "network": NETWORKS,
        "datasets": [_dataset(folder, mask_path=str(masks), caption_dropout_rate=0.3)],
    }


def pixels(folder: Path) -> Sections:
    """`subpixel`, with a LoRA beside it."""
    return {"adapter": {"type": "subpixel"}, "datasets": [_dataset(folder)]}


def views_and_pixels(folder: Path) -> Sections:
    """`ip+` and `subpixel` with a LoRA and preservation; some of the views are left out."""
    views = str(write_dataset(folder / "views", count=COUNT))
    encoder = str(write_vision_encoder(folder / "encoder"))
    seeing = {"type": "ip+", "image_encoder_path": encoder, "test_img_path": views}
    return {
        "adapter": [seeing, {"type": "subpixel"}],
        "datasets": [_dataset(folder, clip_image_path=views, caption_dropout_rate=0.3)],
        "train": {"blank_prompt_preservation": True},
    }


def adapters(folder: Path) -> Sections:
    """Every adapter that can be beside the others, and a LoRA."""
    encoder = str(write_vision_encoder(folder / "encoder"))
    views, edges = (str(write_dataset(folder / name, count=COUNT)) for name in ("views", "edges"))
    kinds = ("ip", "redux", "vision_direct")
    seeing: list[Sections] = [{"type": kind, "image_encoder_path": encoder, "test_img_path": views} for kind in kinds]
    seeing[2]["positions"] = "grid"
    return {
        "adapter": [*seeing, {"type": "control_lora"}],
        "datasets": [_dataset(folder, control_path=edges, clip_image_path=views, caption_dropout_rate=0.3)],
        "sample": {"samples": [{"prompt": "red", "ctrl_img": f"{edges}/0.png"}]},
    }


def slider(folder: Path) -> Sections:
    """A slider that is trained from words."""
    return {"type": "concept_slider", "slider": SLIDER, "datasets": [_dataset(folder)]}


PARALLEL_JOBS: Mapping[str, Make] = {
    "networks, masks": networks_and_masks,
    VIEWS: views_and_pixels,
    "slider": slider,
}
TWO_PASSES = (VIEWS, "slider")  # with gradient, for each batch


def _dataset(folder: Path, **settings: Any) -> Sections:
    return {"folder_path": str(write_dataset(folder / "images", count=COUNT)), "resolution": 32, **settings}
