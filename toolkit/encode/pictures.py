"""Encodes training images and their references once, before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.data.examples import Example, Reference
from toolkit.data.images import Color, load_pixels
from toolkit.encode.cache import latents_key
from toolkit.encode.encodings import Encodings
from toolkit.models.base_model import BaseModel


class ImageEncoder:
    """Encodes training images and their references; the VAE is loaded at the first image that is not cached.

    Args:
        model: the model whose VAE encodes the images.
        encodings: keeps the results, one entry per distinct picture.
        fingerprint: fingerprint of the model's VAE (`model.fingerprint`), part of the cache keys.
        backgrounds: color (red, green, blue; 0..255) behind transparent pixels of the images, for each dataset.
    """

    def __init__(
        self, model: BaseModel, encodings: Encodings, *, fingerprint: str, backgrounds: Sequence[Color]
    ) -> None:
        self.model = model
        self.encodings = encodings
        self.backgrounds = backgrounds
        self._fingerprint = fingerprint

    def add(self, picture: Example | Reference, *, folder: Path | None) -> bool:
        """Encode an example or reference unless that has been done. Returns whether it had to be encoded."""
        return self.encodings.add(self._key(picture), lambda: self.encode(picture), folder=folder)

    def __getitem__(self, picture: Example | Reference) -> Tensor:
        """Latents [C, h, w], on the CPU, of an example or reference that has been added."""
        return self.encodings[self._key(picture)]

    def encode(self, picture: Example | Reference) -> Tensor:
        """Latents [C, h, w] of an example or reference, bypassing the cache."""
        self.model.load("vae")
        pixels = load_pixels(picture, background=self._background(picture))
        return self.model.encode_images(pixels.unsqueeze(0))[0].to(torch.float32)

    def free(self) -> None:
        """Unload the VAE."""
        self.model.free("vae")

    def _key(self, picture: Example | Reference) -> str:
        return latents_key(
            picture,
            vae_fingerprint=self._fingerprint,
            background=self._background(picture),
            dtype="fp32",
        )

    def _background(self, picture: Example | Reference) -> Color:
        return picture.background if isinstance(picture, Reference) else self.backgrounds[picture.dataset_index]
