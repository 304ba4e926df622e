"""Generates samples with diffusers' FLUX.2 pipelines, with references and VAE precision as in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.latents import decode
from toolkit.config import SampleItem
from toolkit.memory.tiling import tiled_above
from toolkit.models.vae_precision import vae_precision


class _KeepSize(Flux2ImageProcessor):
    """Keeps the size of references. The base class scales them down to 1024 x 1024 pixels, even a single one."""

    @staticmethod
    def _resize_to_target_area(image: Image.Image, target_area: int = 0) -> Image.Image:
        return image


@torch.no_grad()
def draw(
    pipeline: Any,
    item: SampleItem,
    arguments: Mapping[str, Any],
    generators: Sequence[torch.Generator],
    *,
    encode: Callable[[Tensor], Tensor],
    limit: int,
) -> list[Image.Image]:
    """Draw samples of one size in one batch.

    Args:
        pipeline: one of the FLUX.2 pipelines.
        item: the size and number of steps of all samples.
        arguments: more arguments of the pipeline; references are under `image`, at the sizes the model shall see.
        generators: a generator for the noise of each sample.
        encode: converts pixels to latents, as in training.
        limit: images with more pixels are decoded in tiles.
    """
    vae, dtype = pipeline.vae, pipeline.transformer.dtype
    pipeline.set_progress_bar_config(disable=True)
    pipeline.image_processor = _KeepSize(vae_scale_factor=2 * pipeline.vae_scale_factor)

    def encode_alone(image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        with vae_precision(vae):
            return encode(image).to(dtype)

    pipeline._encode_vae_image = encode_alone
    drawn = pipeline(
        height=item.height,
        width=item.width,
        num_inference_steps=item.sample_steps,
        generator=list(generators),
        output_type="latent",
        **arguments,
    ).images
    with vae_precision(vae):
        if (
            drawn.ndim == 3
        ):  # dev's pipeline returns tokens [B, S, C]; the others return input of the VAE [B, C / 4, ...]
            token_px = 2 * pipeline.vae_scale_factor
            cells = drawn.transpose(1, 2).unflatten(2, (item.height // token_px, item.width // token_px))
            pixels = decode(vae, cells, limit=limit)
        else:
            with tiled_above(vae, item.width * item.height, limit=limit):
                pixels = vae.decode(drawn.to(vae.device, vae.dtype), return_dict=False)[0]
    images: list[Image.Image] = pipeline.image_processor.postprocess(pixels)
    return images
