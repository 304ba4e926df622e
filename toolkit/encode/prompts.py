"""Encodes texts once, before training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from toolkit.encode.cache import embeddings_key
from toolkit.encode.encodings import Encodings
from toolkit.models.base_model import BaseModel


class PromptEncoder:
    """Encodes texts; the text encoder is loaded at the first text that is not cached.

    Args:
        model: the model whose text encoder encodes the texts.
        encodings: keeps the results, one entry per distinct text.
        fingerprint: fingerprint of the model's text encoder (`model.fingerprint`), part of the cache keys.
        warn: called with a warning, once for each text that is too long.
        redact: removes secrets from a text.
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
        """Encode a text unless that has been done. Returns whether it had to be encoded."""
        if prompt not in self._keys:
            cut = self.model.cut_prompt(prompt)
            if cut is not None:
                self.warn(cut.describe(self.redact))
        return self.encodings.add(self._key(prompt), partial(self._encode, prompt), folder=folder, is_packed=True)

    def __getitem__(self, prompt: str) -> Tensor:
        """Embeddings [L, D], on the CPU and in the model's dtype, of a text that has been added."""
        return self.encodings[self._key(prompt)].to(self.model.dtype)

    def free(self) -> None:
        """Unload the text encoder."""
        self.model.free("text_encoder")

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
        # One at a time: not even the last bits of a text's embedding may depend on the other texts in a batch.
        return self.model.get_prompt_embeds([prompt])[0]
