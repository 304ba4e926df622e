"""FLUX.2's transformer and VAE from any of their layouts, streamed into an empty module."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

from extensions_built_in.diffusion_models.flux2.detect import build_of, check_arch, transformer_config, vae_config
from extensions_built_in.diffusion_models.flux2.single_file import transformer_tensors, vae_tensors
from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Convert, check_fit, converted_shapes, stream_into
from toolkit.weights.tensor_index import index_tensors


@dataclass(frozen=True)
class Recipe:
    """All that is needed to load a component; making one reads headers only.

    Attributes:
        module: on the meta device.
        weights: what the files hold.
        convert: from their names to the module's.
    """

    module: torch.nn.Module
    weights: PlainWeights
    convert: Convert

    def load(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device,
        device_of: Callable[[str], torch.device] | None = None,
        placed: Callable[[str], None] | None = None,
    ) -> Any:
        """The module with its weights, frozen; see `stream_into`."""
        stream_into(
            self.module,
            self.weights,
            convert=self.convert,
            dtype=dtype,
            device=device,
            device_of=device_of,
            placed=placed,
        )
        return self.module


def transformer_recipe(files: ComponentFiles, *, arch: str) -> Recipe:
    """How to load the transformer.

    Raises:
        UserError: the files are damaged, not whole, of another model, or of another arch than the job names.
    """
    index, convert = transformer_tensors(index_tensors(_weights_of(files)), files)
    weights = PlainWeights(index)
    shapes = converted_shapes(weights, convert)
    try:
        check_arch(build_of(shapes), arch, place=files.place)
        config = _config_of(files) or transformer_config(shapes)
    except KeyError as error:
        raise UserError(
            f"{files.place}: the transformer is not whole: {error.args[0]} is missing. Download it again."
        ) from error
    module = _empty(Flux2Transformer2DModel, config, files)
    check_fit(module, shapes, place=files.place, kind=f"transformer of {arch}")
    return Recipe(module, weights, convert)


def vae_recipe(files: ComponentFiles) -> Recipe:
    """How to load the VAE, with the full or the small decoder.

    Raises:
        UserError: the files are damaged, not whole or of another VAE.
    """
    index, convert = vae_tensors(index_tensors(_weights_of(files)), files)
    weights = PlainWeights(index)
    shapes = converted_shapes(weights, convert)
    try:
        config = _config_of(files) or vae_config(shapes)
    except KeyError as error:
        raise UserError(
            f"{files.place}: the VAE is not whole: {error.args[0]} is missing. Download it again."
        ) from error
    module = _empty(AutoencoderKLFlux2, config, files)
    check_fit(module, shapes, place=files.place, kind="VAE of FLUX.2", optional=["bn.num_batches_tracked"])
    return Recipe(module, weights, convert)


def _weights_of(files: ComponentFiles) -> tuple[Path, ...]:
    if not files.weights:
        raise UserError(f"{files.place}: has no safetensors file. Download the weights.")
    return files.weights


def _config_of(files: ComponentFiles) -> dict[str, Any] | None:
    if files.folder is None:
        return None
    path = files.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Download it again.") from error
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "an unknown method")
        raise UserError(
            f"{files.place}: the weights were quantized by {method}, which training cannot start from. Use the bf16 "
            "weights; `model.quantize` makes them small."
        )
    return config


def _empty(kind: Any, config: dict[str, Any], files: ComponentFiles) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            return kind.from_config(config).requires_grad_(False).eval()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{files.place}: no {kind.__name__} can be made of its config.json ({error}).") from error
