"""Captions and images, encoded once before training, in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from toolkit.data.examples import Example, Reference
from toolkit.data.images import Color, load_pixels
from toolkit.encode.cache import TensorCache, embeddings_key, latents_key
from toolkit.encode.packing import pack, packed_bytes, unpack
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.units import as_size

# Latents and packed embeddings beyond this go to disk: 1000 captions of a large model would take several GB of RAM.
MEMORY_LIMIT_BYTES = 2_000_000_000


class Encodings:
    """Encoded things by their cache key: in memory, or in a cache folder that later runs find again.

    Args:
        tell: told of damaged entries, and once of the overflow.
        overflow: folder for what is to be kept in memory and does not fit under `MEMORY_LIMIT_BYTES`.
    """

    def __init__(self, tell: Callable[[str], None], *, overflow: Path) -> None:
        self._tell = tell
        self._overflow = TensorCache(overflow, on_damage=tell)
        self._num_bytes = 0
        self._in_memory: dict[str, Mapping[str, Tensor]] = {}
        self._on_disk: dict[str, TensorCache] = {}

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of a key that was added.

        Raises:
            UserError: its cache file was damaged or deleted while the job ran.
        """
        if key in self._in_memory:
            return _opened(self._in_memory[key])
        cache = self._on_disk[key]
        entry = cache.get(key)
        if entry is None:
            raise UserError(f"{cache.path(key)}: the cache entry is gone. Start the job again; it will be made anew.")
        return _opened(entry)

    def add(self, key: str, make: Callable[[], Tensor], *, folder: Path | None, is_packed: bool = False) -> bool:
        """Make sure that a key is there. Returns True if `make` had to be called.

        Args:
            key: what shaped the tensor, from `toolkit.encode.cache`.
            make: computes the tensor.
            folder: where it is kept on disk; None keeps it in memory while there is room.
            is_packed: keep it in fewer bytes, see `toolkit.encode.packing`.
        """
        if key in self._in_memory or key in self._on_disk:
            return False
        cache = self._overflow if folder is None else TensorCache(folder, on_damage=self._tell)
        was_there = cache.has(key)
        if not was_there:
            tensor = make().cpu()
            entry = pack(tensor) if is_packed else {"tensor": tensor}
            if folder is None and self._fits(packed_bytes(entry)):
                self._in_memory[key] = entry
                return True
            cache.put(key, entry)
        self._on_disk[key] = cache
        return not was_there

    def remove_overflow(self) -> None:
        """Delete what did not fit into memory; a run that is done needs it no more."""
        for key in [key for key, cache in self._on_disk.items() if cache is self._overflow]:
            self._overflow.path(key).unlink(missing_ok=True)
            del self._on_disk[key]
        if self._overflow.folder.is_dir() and not any(self._overflow.folder.iterdir()):
            self._overflow.folder.rmdir()

    def _fits(self, num_bytes: int) -> bool:
        if self._num_bytes + num_bytes <= MEMORY_LIMIT_BYTES:
            self._num_bytes += num_bytes
            return True
        if self._overflow not in self._on_disk.values():
            self._tell(
                f"encoded captions and images fill {as_size(MEMORY_LIMIT_BYTES)} of memory: the rest is kept in "
                f"{self._overflow.folder} until the run is done"
            )
        return False


def _opened(entry: Mapping[str, Tensor]) -> Tensor:
    return entry["tensor"] if "tensor" in entry else unpack(entry)


class PromptEncoder:
    """Encodes texts; the text encoder is loaded when the first text is not cached.

    Args:
        model: encodes them.
        encodings: keep them, one entry per distinct text.
        warn: told of each text that is too long, once.
        redact: takes out of a text what nobody may see.
    """

    def __init__(
        self,
        model: BaseModel,
        encodings: Encodings,
        *,
        warn: Callable[[str], None],
        redact: Callable[[str], str] = str,
    ) -> None:
        self.model = model
        self.encodings = encodings
        self.warn = warn
        self.redact = redact
        self._fingerprint = model.fingerprint("text_encoder")
        self._keys: dict[str, str] = {}

    def add(self, prompts: Iterable[str], *, folder: Path | None) -> int:
        """Encode what is not there yet. Returns how many had to be encoded."""
        num_new = 0
        for prompt in prompts:
            if prompt not in self._keys:
                cut = self.model.cut_prompt(prompt)
                if cut is not None:
                    self.warn(cut.describe(self.redact))
            encode = partial(self._encode, prompt)
            num_new += self.encodings.add(self._key(prompt), encode, folder=folder, is_packed=True)
        return num_new

    def __getitem__(self, prompt: str) -> Tensor:
        """[L, D], on the CPU, of a text that was added."""
        return self.encodings[self._key(prompt)]

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


class ImageEncoder:
    """Encodes training images and their references; the VAE is loaded when the first image is not cached."""

    def __init__(self, model: BaseModel, encodings: Encodings, backgrounds: Sequence[Color]) -> None:
        self.model = model
        self.encodings = encodings
        self.backgrounds = backgrounds
        self._fingerprint = model.fingerprint("vae")

    def add(self, picture: Example | Reference, *, folder: Path | None) -> bool:
        """Encode an example or reference if it is not there yet. Returns whether it had to be encoded."""
        return self.encodings.add(self._key(picture), lambda: self.encode(picture), folder=folder)

    def __getitem__(self, picture: Example | Reference) -> Tensor:
        """[C, h, w], on the CPU, of an example or reference that was added."""
        return self.encodings[self._key(picture)]

    def encode(self, picture: Example | Reference) -> Tensor:
        """[C, h, w] of an example or reference, without any cache."""
        self.model.load("vae")
        pixels = load_pixels(picture, background=self._background(picture))
        return self.model.encode_images(pixels.unsqueeze(0))[0].to(torch.float32)

    def _key(self, picture: Example | Reference) -> str:
        return latents_key(
            picture,
            vae_fingerprint=self._fingerprint,
            background=self._background(picture),
            dtype="fp32",
        )

    def _background(self, picture: Example | Reference) -> Color:
        return picture.background if isinstance(picture, Reference) else self.backgrounds[picture.dataset_index]
