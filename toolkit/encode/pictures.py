"""Encodes training images and their references once, before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy
import torch
from torch import Tensor

from toolkit.data.beside.mask_loading import load_mask
from toolkit.data.examples import Example, LossMask, Reference
from toolkit.data.images import Color, load_pixels
from toolkit.encode.ahead import Ahead
from toolkit.encode.cache import latents_key, mask_key
from toolkit.encode.encodings import Encodings
from toolkit.errors import UserError
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
        self._pixels = Ahead(self._load)

    def expect(self, pictures: Sequence[tuple[Example | Reference | LossMask, Path | None]]) -> None:
        """What will be added next, in this order, each with its folder: what must be encoded is decoded ahead."""
        self._pixels.expect(self._missing(pictures))

    def add(self, picture: Example | Reference | LossMask, *, folder: Path | None) -> bool:
        """Encode a picture, or load a mask, unless that has been done. Returns whether it had to be done.

        Raises:
            UserError: a file cannot be read, or a mask shows nothing within the crop of its image.
        """
        if isinstance(picture, LossMask):
            return self.encodings.add(mask_key(picture), partial(_shown, picture), folder=folder)
        key = self._key(picture)
        return self.encodings.add(key, lambda: self._encoded(self._pixels.take(key, picture)), folder=folder)

    def __getitem__(self, picture: Example | Reference) -> Tensor:
        """Latents [C, h, w], on the CPU, of an example or reference that has been added."""
        return self.encodings[self._key(picture)]

    def mask(self, mask: LossMask) -> Tensor:
        """How much each place of an image counts, [1, H / 8, W / 8], fp32, 0..1, for a mask that need not be added."""
        loaded = self.encodings[mask_key(mask)] if mask_key(mask) in self.encodings else mask_values(mask)
        return mask.file.floor + (1 - mask.file.floor) * loaded.float() / 255

    def encode(self, picture: Example | Reference) -> Tensor:
        """Latents [C, h, w] of an example or reference, bypassing the cache."""
        return self._encoded(self._load(picture))

    def free(self) -> None:
        """Unload the VAE."""
        self._pixels.close()
        self.model.free("vae")

    def _load(self, picture: Example | Reference) -> Tensor:
        return load_pixels(picture, background=self._background(picture))

    def _encoded(self, pixels: Tensor) -> Tensor:
        self.model.load("vae")
        # One at a time: not even the last bits of an image's latents may depend on the other images in a batch.
        return self.model.encode_images(pixels.unsqueeze(0))[0].to(torch.float32)

    def _missing(
        self, pictures: Sequence[tuple[Example | Reference | LossMask, Path | None]]
    ) -> Iterator[tuple[str, Example | Reference]]:
        """The pictures that must be encoded, each once, by their keys."""
        seen: set[str] = set()
        for picture, folder in pictures:
            if not isinstance(picture, LossMask) and (key := self._key(picture)) not in seen:
                seen.add(key)
                if not self.encodings.has(key, folder=folder):
                    yield key, picture

    def _key(self, picture: Example | Reference) -> str:
        return latents_key(
            picture,
            vae_fingerprint=self._fingerprint,
            background=self._background(picture),
            dtype="fp32",
        )

    def _background(self, picture: Example | Reference) -> Color:
        return picture.background if isinstance(picture, Reference) else self.backgrounds[picture.dataset_index]


def mask_values(mask: LossMask) -> Tensor:
    """A loaded mask, [1, H / 8, W / 8], uint8."""
    return torch.from_numpy(numpy.array(load_mask(mask))).unsqueeze(0)


def _shown(mask: LossMask) -> Tensor:
    values = mask_values(mask)
    if not values.any():
        raise UserError(
            f"{mask.file.path}: the mask is empty within the crop of its image at {mask.fit.bucket[0]} x "
            f"{mask.fit.bucket[1]}. Remove the image, or crop it so that the masked area is kept"
        )
    return values
