"""Identifies VAEs that encode images to the same latents, whatever their files are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.weights.layouts import ComponentFiles

# The decoder does not affect latents: the VAE with the small decoder shares its cache with the full one.
_ENCODER = ("encoder.", "quant_conv.", "bn.running_")


def vae_fingerprint(files: ComponentFiles, *, settings: Mapping[str, object], dtype: torch.dtype) -> str:
    """Hex digest of a VAE's encoder and of the number format it runs in.

    Equal for all models with the same encoder, whatever their file names, tensor names (the released `ae.safetensors`
    has its own) and decoders. Reads the encoder: 70 to 140 MB.

    Args:
        files: the VAE's files: a folder with `config.json`, or a released single file.
        settings: settings that affect latents but are not visible in the weights, with their values for released files
            that come without `config.json`.
        dtype: number format that the VAE runs in.

    Raises:
        UserError: a file is damaged, or no file contains a VAE encoder.
    """
    config = None if files.folder is None else files.folder / "config.json"
    digests = sorted(digest for path in files.weights for digest in _digests(path))
    if not digests:
        found = ", ".join(str(path) for path in files.weights) or f"the folder of {config}"
        raise UserError(f"{found}: no VAE encoder found. Check model.vae_path and model.name_or_path.")
    encoder = sha256_json({"tensors": digests, "settings": _settings(config, settings)})
    return sha256_json({"encoder": encoder, "dtype": str(dtype)})


def _digests(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return [_digest(file.get_tensor(key)) for key in file.keys() if key.startswith(_ENCODER)]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}).") from error


def _digest(tensor: Tensor) -> str:
    # Names and shapes are left out: layouts name tensors differently and store linear layers as 1 x 1 convolutions.
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.numel()}".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings(config: Path | None, defaults: Mapping[str, object]) -> dict[str, object]:
    stored = {} if config is None else json.loads(config.read_text(encoding="utf-8"))
    return {key: stored.get(key, default) for key, default in defaults.items()}
