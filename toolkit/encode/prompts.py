"""Encodes texts once, before training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.encode.cache import embeddings_key
from toolkit.encode.encodings import Encodings
from toolkit.files import sha256_json
from toolkit.models.base_model import BaseModel
from toolkit.models.prompt_cut import FACT, PromptCut, cut_of, facts_of


def text_fingerprint(model: BaseModel) -> str:
    """Hex digest that changes whenever the embeddings that a `PromptEncoder` makes do."""
    encoder = model.fingerprint("text_encoder")
    return sha256_json([encoder, model.fingerprint("transformer")]) if model.options.embeds_text else encoder


class PromptEncoder:
    """Encodes texts; the text encoder is loaded at the first text that is not cached.

    Args:
        model: the model whose text encoder encodes the texts.
        encodings: keeps the results, one entry per distinct text.
        fingerprint: tells of all that makes embeddings (`text_fingerprint`), part of the cache keys.
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
        self._layer: nn.Module | None = None

    def add(self, prompt: str, *, folder: Path | None) -> bool:
        """Encode a text unless that has been done. Returns whether it had to be encoded."""
        is_known, key = prompt in self._keys, self._key(prompt)
        cut = None if is_known else self._cut(prompt, key, folder)
        if cut is not None:
            self.warn(cut.describe(self.redact))
        facts = {} if is_known else facts_of(prompt, cut)
        return self.encodings.add(key, partial(self._encode, prompt), folder=folder, is_packed=True, facts=facts)

    def __getitem__(self, prompt: str) -> Tensor:
        """Embeddings [L, D], on the CPU and in the model's dtype, of a text that has been added."""
        return self.encodings[self._key(prompt)].to(self.model.dtype)

    def free(self) -> None:
        """Unload the text encoder."""
        self._layer = None
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

    def _cut(self, prompt: str, key: str, folder: Path | None) -> PromptCut | None:
        """Where the prompt is cut, as its cache entry says: a tokenizer takes a second to load."""
        facts = self.encodings.facts(key, folder)
        if FACT in facts:
            return cut_of(prompt, facts)
        return self.model.cut_prompt(prompt)

    def _encode(self, prompt: str) -> Tensor:
        self.model.load("text_encoder")
        # One at a time: not even the last bits of a text's embedding may depend on the other texts in a batch.
        embeds = self.model.get_prompt_embeds([prompt])  # [1, L, D]
        return self._embedded(embeds.to(self.model.dtype))[0] if self.model.options.embeds_text else embeds[0]

    @torch.no_grad()
    def _embedded(self, embeds: Tensor) -> Tensor:
        """Embeddings [B, L, D] as the transformer's first layer for text gives them."""
        if self._layer is None:
            self._layer = self.model.load_text_layer()
        embedded: Tensor = self._layer(embeds)
        return embedded
