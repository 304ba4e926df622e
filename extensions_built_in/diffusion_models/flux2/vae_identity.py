"""What makes two VAEs the same to a cache of latents: the numbers that encode, whatever their file is called."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import sha256_json

# A decoder does not touch latents: the VAE with the small decoder shares its cache with the full one.
_ENCODES = ("encoder.", "quant_conv.", "bn.running_")
# Settings that are not visible in the weights, with the values of released files that come without config.json.
_SETTINGS = {"batch_norm_eps": 1e-4, "norm_num_groups": 32, "act_fn": "silu"}


def encoder_fingerprint(place: Path) -> str:
    """Hex digest of the part of a VAE that makes latents.

    Equal for all models that come with the same VAE, also under other file names, tensor names (the released
    `ae.safetensors` has its own) and decoders. Reads the encoder: 70 to 140 MB.

    Args:
        place: a safetensors file, or a folder of such files with a `config.json`.

    Raises:
        UserError: no VAE there, or a damaged file.
    """
    paths = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    digests = sorted(digest for path in paths for digest in _digests(path))
    if not digests:
        raise UserError(f"{place}: no VAE weights (.safetensors) here. Check model.vae_path and model.name_or_path.")
    return sha256_json({"tensors": digests, "settings": _settings(place / "config.json")})


def _digests(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return [_digest(file.get_tensor(key)) for key in file.keys() if key.startswith(_ENCODES)]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}).") from error


def _digest(tensor: Tensor) -> str:
    # Neither name nor shape: the layouts name tensors differently, and store linear layers as 1 x 1 convolutions.
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.numel()}".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings(config: Path) -> dict[str, object]:
    stored = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return {key: stored.get(key, default) for key, default in _SETTINGS.items()}
