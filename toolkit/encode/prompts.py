"""Texts encoded once before training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from toolkit.encode.cache import embeddings_key
from toolkit.encode.encodings import Encodings
from toolkit.models.base_model import BaseModel


class PromptEncoder:
    """Encodes texts; the text encoder is loaded when the first text is not cached.

    Args:
        model: encodes them.
        encodings: keep them, one entry per distinct text.
        fingerprint: of the model's text encoder (`model.fingerprint`): part of the cache keys.
        warn: is told of each text that is too long, once.
        redact: takes out of a text what nobody may see.
    """

    def __init__(
        self,
        model: BaseModel,
        encodings: Encodings,
        *,
        fingerprint: str,
        warn: Callable[[str], None],
        redact: Callable[[str], str] = str,
    ) -> None:
        self.model = model
        self.encodings = encodings
        self.warn = warn
        self.redact = redact
        self._fingerprint = fingerprint
        self._keys: dict[str, str] = {}

    def add(self, prompt: str, *, folder: Path | None) -> bool:
        """Encode a text if it is not there yet. Returns whether it had to be encoded."""
        if prompt not in self._keys:
            cut = self.model.cut_prompt(prompt)
            if cut is not None:
                self.warn(cut.describe(self.redact))
        return self.encodings.add(self._key(prompt), partial(self._encode, prompt), folder=folder, is_packed=True)

    def __getitem__(self, prompt: str) -> Tensor:
        """[L, D], on the CPU, in the model's dtype, of a text that was added."""
        return self.encodings[self._key(prompt)].to(self.model.dtype)

    def _key(self, prompt: str) -> str:
        if prompt not in self._keys:
            self._keys[prompt] = embeddings_key(
                prompt,
                text_encoder_fingerprint=self._fingerprint,
                max_tokens=self.model.max_text_tokens,
                dtype=str(self.model.dtype),
            )
        return self._keys[prompt]

    def _encode(self, prompt: str) -> Tensor:
        self.model.load("text_encoder")
        # One at a time: a text's embedding must not depend, in its last bits, on its neighbours.
        return self.model.get_prompt_embeds([prompt])[0]
