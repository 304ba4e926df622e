"""Encodes, once, the images that adapters see, with one vision encoder after the other."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from toolkit.data.examples import ViewImage
from toolkit.data.images import open_upright
from toolkit.encode.cache import view_key
from toolkit.encode.encodings import Encodings
from toolkit.encode.vision import VisionEncoder
from toolkit.encode.vision_model import VisionModel, load_vision_model
from toolkit.memory.host import release_memory
from toolkit.plan.needs import View


class ViewEncoder:
    """Makes features of images; an encoder is loaded at its first image that is not cached.

    Args:
        encodings: keeps the results, one entry per distinct image, encoder and layer.
        device: where the encoders run.
    """

    def __init__(self, encodings: Encodings, device: torch.device) -> None:
        self.encodings = encodings
        self.device = device
        self._fingerprints: dict[VisionEncoder, str] = {}
        self._loaded: VisionModel | None = None

    def add(self, view: View, *, folder: Path | None) -> bool:
        """Encode an image unless that has been done. Returns whether it had to be encoded."""
        key = self._key(view.encoder, view.source)
        return self.encodings.add(key, lambda: self._encode(view.encoder, view.source), folder=folder)

    def features(self, encoder: VisionEncoder, image: ViewImage) -> Tensor:
        """The features, [M, E], fp16, on the CPU, of an image that has been added."""
        return self.encodings[self._key(encoder, image)]

    def free(self) -> None:
        """Unload the encoder that is loaded."""
        self._loaded = None
        release_memory()

    def _key(self, encoder: VisionEncoder, image: ViewImage) -> str:
        if encoder not in self._fingerprints:
            self._fingerprints[encoder] = encoder.fingerprint(encoder.files())
        return view_key(image, encoder_fingerprint=self._fingerprints[encoder])

    def _encode(self, encoder: VisionEncoder, image: ViewImage) -> Tensor:
        if self._loaded is None or self._loaded.encoder != encoder:
            self.free()
            self._loaded = load_vision_model(encoder, self.device)
        return self._loaded.features(open_upright(image))
