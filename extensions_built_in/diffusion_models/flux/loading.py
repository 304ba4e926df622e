"""FLUX.1's transformer and VAE from any of their layouts, streamed into an empty module."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, FluxTransformer2DModel

from extensions_built_in.diffusion_models.flux.detect import check_arch, transformer_config, vae_config
from extensions_built_in.diffusion_models.flux.single_file import transformer_tensors, vae_tensors
from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, config_of, empty_module, weights_of
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import check_fit, converted_shapes
from toolkit.weights.tensor_index import index_tensors


def transformer_recipe(files: ComponentFiles, *, arch: str) -> Recipe:
    """How to load the transformer.

    Raises:
        UserError: the files are damaged, not whole, of another model, or of another arch than the job names.
    """
    index, convert = transformer_tensors(index_tensors(weights_of(files)), files)
    weights = PlainWeights(index)
    shapes = converted_shapes(weights, convert)
    config = _stored_or_found(files, transformer_config, shapes, "transformer")
    check_arch(config, arch, path=files.path)
    module = empty_module(FluxTransformer2DModel.from_config, config, files, what="FluxTransformer2DModel")
    check_fit(module, shapes, path=files.path, kind=f"transformer of {arch}")
    return Recipe(module, weights, convert)


def vae_recipe(files: ComponentFiles) -> Recipe:
    """How to load the VAE.

    Raises:
        UserError: the files are damaged, not whole or of another VAE.
    """
    index, convert = vae_tensors(index_tensors(weights_of(files)), files)
    weights = PlainWeights(index)
    shapes = converted_shapes(weights, convert)
    config = _stored_or_found(files, vae_config, shapes, "VAE")
    module = empty_module(AutoencoderKL.from_config, config, files, what="AutoencoderKL")
    check_fit(module, shapes, path=files.path, kind="VAE of FLUX.1")
    return Recipe(module, weights, convert)


def _stored_or_found(files: ComponentFiles, find: Any, shapes: Any, what: str) -> dict[str, Any]:
    try:
        found = find(shapes)
    except KeyError as error:
        raise UserError(
            f"{files.path}: the {what} is not whole: {error.args[0]} is missing. Download it again."
        ) from error
    return {**found, **(config_of(files) or {})}
