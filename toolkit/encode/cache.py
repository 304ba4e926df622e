"""Tensors cached on disk under keys that encode everything that determines them, so that no entry is ever outdated."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from toolkit.data.examples import Example, LossMask, Reference, ViewImage
from toolkit.data.images import Color
from toolkit.errors import UserError
from toolkit.files import sha256_json, write_bytes
from toolkit.runtime.verified import Verified

# Raise a version when the same key would stand for different tensors.
LATENTS_VERSION = 2
EMBEDDINGS_VERSION = 2
VIEWS_VERSION = 1
MASKS_VERSION = 1


def latents_key(picture: Example | Reference, *, vae_fingerprint: str, background: Color, dtype: str) -> str:
    """Key of an image's latents. Repeats share it, and so does the same image under another name or as a reference."""
    fit = picture.fit
    shaped_by = {
        "version": LATENTS_VERSION,
        "content": picture.content_hash,
        "vae": vae_fingerprint,
        "resized": fit.resized,
        "crop": fit.crop_box,
        "flip": [picture.flip_x, picture.flip_y],
        "background": background,
        "dtype": dtype,
    }
    if isinstance(picture, Reference) and picture.is_inverted:
        shaped_by["is_inverted"] = True
    return f"latents_{sha256_json(shaped_by)}"


def mask_key(mask: LossMask) -> str:
    """Key of a mask at the size and crop of an image."""
    shaped_by = {
        "version": MASKS_VERSION,
        "content": mask.file.content_hash,
        "is_alpha": mask.file.is_alpha,
        "is_inverted": mask.file.is_inverted,
        "resized": mask.fit.resized,
        "crop": mask.fit.crop_box,
        "flip": [mask.flip_x, mask.flip_y],
    }
    return f"mask_{sha256_json(shaped_by)}"


def embeddings_key(prompt: str, *, text_encoder_fingerprint: str, max_tokens: int, dtype: str) -> str:
    """Key of a prompt's embeddings."""
    shaped_by = {
        "version": EMBEDDINGS_VERSION,
        "prompt": prompt,
        "text_encoder": text_encoder_fingerprint,
        "max_tokens": max_tokens,
        "dtype": dtype,
    }
    return f"embeddings_{sha256_json(shaped_by)}"


def view_key(image: ViewImage, *, encoder_fingerprint: str) -> str:
    """Key of the features of an image; the fingerprint tells of the encoder, its layer and the size it sees."""
    shaped_by = {
        "version": VIEWS_VERSION,
        "content": image.content_hash,
        "encoder": encoder_fingerprint,
        "flip": [image.flip_x, image.flip_y],
        "background": image.background,
    }
    return f"view_{sha256_json(shaped_by)}"


class TensorCache:
    """A folder of `<key>.safetensors` files.

    Several processes may write at the same time: entries appear complete, and all writers of a key write the same.

    Args:
        folder: folder of the files, created when the first entry is written.
        on_damage: called with one line for the user after a damaged entry was removed.
        is_lasting: whether later runs use the folder, so that it is worth a list of what has been found whole.
    """

    def __init__(
        self, folder: Path, *, on_damage: Callable[[str], None] | None = None, is_lasting: bool = True
    ) -> None:
        self.folder = folder
        self.on_damage = on_damage
        self._verified = Verified(folder) if is_lasting else None

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self.folder / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether the entry exists and is intact. Reads all of it unless it has not changed since it was read."""
        path = self.path(key)
        if self._verified is not None and self._verified.has(path):
            return True
        if self.get(key) is None:
            return False
        if self._verified is not None:
            self._verified.add(path)
        return True

    def facts(self, key: str) -> Mapping[str, str]:
        """What was written beside the tensors of an entry; empty if no entry can be read."""
        try:
            with safe_open(self.path(key), framework="pt") as file:
                return file.metadata() or {}
        except (OSError, SafetensorError):
            return {}

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of an entry, on the CPU; None if it does not exist, or was damaged and has been removed.

        Raises:
            UserError: the entry exists but cannot be read.
        """
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(
                f"{path}: the cache entry cannot be read ({error.strerror or error}). Fix its permissions or delete it."
            ) from error
        except SafetensorError as error:
            self._remove(path, str(error))
            return None
        if metadata.get("key") != key or metadata.get("checksum") != _checksum(tensors):
            self._remove(path, "its content has changed since it was written")
            return None
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
        """Write an entry, completely or not at all.

        Raises:
            UserError: the folder cannot be written to or the disk is full; no partial file is left.
        """
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {**(metadata or {}), "key": key, "checksum": _checksum(plain)}
        try:
            write_bytes(self.path(key), safetensors.torch.save(plain, header))
        except OSError as error:
            raise UserError(
                f"{self.folder}: the cache cannot be written ({error.strerror or error}). Free disk space, fix the "
                "permissions, or turn off caching to disk."
            ) from error
        if self._verified is not None:
            self._verified.add(self.path(key))

    def _remove(self, path: Path, reason: str) -> None:
        path.unlink(missing_ok=True)
        if self.on_damage is not None:
            self.on_damage(f"{path}: the cache entry was damaged; it was deleted and will be computed again: {reason}")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of names, dtypes, shapes and bytes: detects damage (every burst of up to 32 bits) at 2 GB/s."""
    crc = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
