"""The kinds of vision encoder: how each is recognised, and what its configuration says about the features of an image.

A configuration file omits what equals the library's default, so defaults that matter are repeated here; a test holds
them equal to the library's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class VisionKind:
    """A kind of vision encoder.

    Attributes:
        model: class in transformers.
        embedding_model: class that also makes `image_embeds`.
        processor: class in transformers that prepares an image with pillow.
        model_types: `model_type` of a configuration of the encoder alone, then of one that has it as `vision_config`.
        spellings: values of `image_encoder_arch` that mean this kind.
        patch_embedding: end of the name of the weight that embeds patches.
        defaults: values of the configuration where it says nothing.
        num_extra: number of tokens before the patches that are kept.
        text_model: class of its text side, whose embeddings can be compared with those of images; empty if it has none.
    """

    model: str
    embedding_model: str
    processor: str
    model_types: tuple[str, ...]
    spellings: tuple[str, ...]
    patch_embedding: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    num_extra: int = 0
    text_model: str = ""


KINDS: Mapping[str, VisionKind] = {
    "siglip": VisionKind(
        "SiglipVisionModel",
        "SiglipVisionModel",
        "SiglipImageProcessorPil",
        ("siglip_vision_model", "siglip"),
        ("siglip", "siglip2"),  # SigLIP 2 for images of one size has SigLIP's classes
        "embeddings.patch_embedding.weight",
        {"hidden_size": 768, "image_size": 224, "patch_size": 16, "num_hidden_layers": 12, "vision_use_head": True},
        text_model="SiglipTextModel",
    ),
    "siglip2": VisionKind(
        "Siglip2VisionModel",
        "Siglip2VisionModel",
        "SiglipImageProcessorPil",
        ("siglip2_vision_model", "siglip2"),
        ("siglip2",),
        "embeddings.patch_embedding.weight",
        {"hidden_size": 768, "num_patches": 256, "patch_size": 16, "num_hidden_layers": 12, "vision_use_head": True},
        text_model="Siglip2TextModel",
    ),
    "clip": VisionKind(
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "CLIPImageProcessorPil",
        ("clip_vision_model", "clip"),
        ("clip",),
        "embeddings.patch_embedding.weight",
        {"hidden_size": 768, "image_size": 224, "patch_size": 32, "num_hidden_layers": 12, "projection_dim": 512},
        num_extra=1,
    ),
    "dinov2": VisionKind(
        "Dinov2Model",
        "Dinov2Model",
        "BitImageProcessorPil",
        ("dinov2",),
        ("dinov2",),
        "embeddings.patch_embeddings.projection.weight",
        {"hidden_size": 768, "image_size": 224, "patch_size": 14, "num_hidden_layers": 12},
    ),
    "dinov3": VisionKind(
        "DINOv3ViTModel",
        "DINOv3ViTModel",
        "SiglipImageProcessorPil",  # DINOv3's own needs torchvision; it resizes and normalises as this one does
        ("dinov3_vit",),
        ("dinov3",),
        "embeddings.patch_embeddings.weight",
        {"hidden_size": 384, "image_size": 224, "patch_size": 16, "num_hidden_layers": 12, "num_register_tokens": 0},
    ),
}


@dataclass(frozen=True)
class VisionSize:
    """What the configuration of an encoder says.

    Attributes:
        kind: the encoder's kind, a key of `KINDS`.
        image_px: side of the square that every image is scaled to.
        patch_px: side of a patch.
        width: width of the hidden states.
        embedding_width: width of the embedding of a whole image; None if the encoder makes none.
        num_layers: number of layers.
        num_dropped: number of tokens before the patches that are not read.
    """

    kind: str
    image_px: int
    patch_px: int
    width: int
    embedding_width: int | None
    num_layers: int
    num_dropped: int = 0

    @property
    def num_patches(self) -> int:
        """Number of patches of an image."""
        return (self.image_px // self.patch_px) ** 2

    def num_tokens(self, layer: str) -> int:
        """Number of features that a layer gives of an image."""
        return 1 if layer == "image_embeds" else self.num_patches + KINDS[self.kind].num_extra


def read_size(config: Mapping[str, Any], processor: Mapping[str, Any]) -> VisionSize | None:
    """The sizes in a `config.json`; None if it does not describe a vision encoder.

    Args:
        config: content of `config.json`.
        processor: content of `preprocessor_config.json`; empty if there is none.

    Raises:
        ValueError, TypeError, KeyError, ZeroDivisionError: the configuration is damaged.
    """
    name = config.get("model_type")
    found = next(((key, kind) for key, kind in KINDS.items() if name in kind.model_types), None)
    if found is None:
        return None
    key, kind = found
    own = config.get("vision_config", {}) if name in kind.model_types[1:] else config
    values = {**kind.defaults, **own}
    patch_px, width = _positive(values["patch_size"]), _positive(values["hidden_size"])
    if key == "siglip2":  # sees images of any shape; here each is scaled to the largest square
        image_px = math.isqrt(_positive(values["num_patches"])) * patch_px
    elif key in ("dinov2", "dinov3"):  # positions fit any size, so the size is the processor's
        image_px = (_processor_px(processor) or _positive(values["image_size"])) // patch_px * patch_px
    else:
        image_px = _positive(values["image_size"])
    if image_px < patch_px:
        raise ValueError(f"an image of {image_px} pixels has no patch of {patch_px}")
    num_layers = _positive(values["num_hidden_layers"])
    has_embedding = values.get("vision_use_head", True)
    embedding = _positive(values["projection_dim"]) if key == "clip" else width
    dropped = 1 + int(values.get("num_register_tokens", 0)) if key in ("dinov2", "dinov3") else 0
    return VisionSize(key, image_px, patch_px, width, embedding if has_embedding else None, num_layers, dropped)


def _processor_px(processor: Mapping[str, Any]) -> int | None:
    size = processor.get("crop_size") if processor.get("do_center_crop") else processor.get("size")
    if isinstance(size, Mapping):
        size = size.get("height", size.get("shortest_edge"))
    return size if isinstance(size, int) and size > 0 else None


def _positive(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(f"{value} is not a size")
    return number
