"""FLUX.2's transformer and VAE from any of their layouts, streamed into an empty module."""

from __future__ import annotations

from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

from extensions_built_in.diffusion_models.flux2.detect import build_of, check_arch, transformer_config, vae_config
from extensions_built_in.diffusion_models.flux2.single_file import transformer_tensors, vae_tensors
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
    try:
        check_arch(build_of(shapes), arch, path=files.path)
        config = config_of(files) or transformer_config(shapes)
    except KeyError as error:
        raise UserError(
            f"{files.path}: the transformer is not whole: {error.args[0]} is missing. Download it again."
        ) from error
    module = empty_module(Flux2Transformer2DModel.from_config, config, files, what="Flux2Transformer2DModel")
    check_fit(module, shapes, path=files.path, kind=f"transformer of {arch}")
    return Recipe(module, weights, convert)


def prompt_width(files: ComponentFiles) -> int | None:
    """Width of the prompt embeddings that a transformer takes, by its header; None if it is not whole.

    Raises:
        UserError: the files are damaged or no transformer of FLUX.2.
    """
    index, convert = transformer_tensors(index_tensors(weights_of(files)), files)
    embedder = converted_shapes(PlainWeights(index), convert).get("context_embedder.weight")
    return None if embedder is None else embedder[1]


def vae_recipe(files: ComponentFiles) -> Recipe:
    """How to load the VAE, with the full or the small decoder.

    Raises:
        UserError: the files are damaged, not whole or of another VAE.
    """
    index, convert = vae_tensors(index_tensors(weights_of(files)), files)
    weights = PlainWeights(index)
    shapes = converted_shapes(weights, convert)
    try:
        config = config_of(files) or vae_config(shapes)
    except KeyError as error:
        raise UserError(
            f"{files.path}: the VAE is not whole: {error.args[0]} is missing. Download it again."
        ) from error
    module = empty_module(AutoencoderKLFlux2.from_config, config, files, what="AutoencoderKLFlux2")
    check_fit(module, shapes, path=files.path, kind="VAE of FLUX.2", optional=["bn.num_batches_tracked"])
    return Recipe(module, weights, convert)
