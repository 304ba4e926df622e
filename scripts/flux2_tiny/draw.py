"""Draw scenes with the tiny FLUX.2, using diffusers' own pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import Flux2KleinPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from PIL import Image
from transformers.utils import logging as transformers_logging

from scripts.flux2_tiny.text import MAX_LENGTH
from scripts.flux2_tiny.world import SIZE_PX, Scene
from toolkit.runtime.devices import product_dtype

NUM_STEPS = 20
GUIDANCE_SCALE = 4.0
BATCH_SIZE = 32


def load_pipeline(folder: Path) -> Flux2KleinPipeline:
    """The tiny model in fp32, on the CPU, without progress bars."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline = Flux2KleinPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_scenes(
    pipeline: Flux2KleinPipeline, scenes: Sequence[Scene], *, seed: int, num_steps: int | None = None
) -> list[NDArray[np.uint8]]:
    """One image per scene, prompted with its full caption. See `draw_captions`."""
    return draw_captions(pipeline, [scene.caption() for scene in scenes], seed=seed, num_steps=num_steps)


def quick_products() -> torch.autocast:
    """A context that computes matrix products in bf16 where this CPU multiplies it, which takes half the time."""
    is_quick = product_dtype(torch.device("cpu"), torch.bfloat16) == torch.bfloat16
    return torch.autocast("cpu", torch.bfloat16, enabled=is_quick)


def draw_captions(
    pipeline: Flux2KleinPipeline, captions: Sequence[str], *, seed: int, num_steps: int | None = None
) -> list[NDArray[np.uint8]]:
    """One image per caption.

    See `quick_products`; latents and timesteps stay fp32.

    Args:
        pipeline: the tiny model.
        captions: the prompts.
        seed: seed of the first image.
        num_steps: number of denoising steps; default `NUM_STEPS`.

    Returns:
        images [128, 128, 3], 0..255. Image i depends only on its caption and on seed + i.
    """
    pictures: list[NDArray[np.uint8]] = []
    for start in range(0, len(captions), BATCH_SIZE):
        pictures += _draw(pipeline, captions[start : start + BATCH_SIZE], seed=seed + start, num_steps=num_steps)
    return pictures


def draw_edits(
    pipeline: Flux2KleinPipeline,
    references: Sequence[Image.Image | None],
    *,
    prompt: str,
    seed: int,
    num_steps: int | None = None,
) -> list[NDArray[np.uint8]]:
    """One image for each reference or None. Image i depends only on reference i, the prompt and seed + i.

    Images are drawn one by one: the pipeline uses the same references for all images of a call.
    """
    return [
        picture
        for index, reference in enumerate(references)
        for picture in _draw(pipeline, [prompt], seed=seed + index, reference=reference, num_steps=num_steps)
    ]


def _draw(
    pipeline: Flux2KleinPipeline,
    prompts: Sequence[str],
    *,
    seed: int,
    reference: Image.Image | None = None,
    num_steps: int | None = None,
) -> list[NDArray[np.uint8]]:
    with warnings.catch_warnings(), quick_products():
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        images = pipeline(
            prompt=list(prompts),
            image=reference,
            height=SIZE_PX,
            width=SIZE_PX,
            num_inference_steps=num_steps or NUM_STEPS,
            guidance_scale=GUIDANCE_SCALE,
            max_sequence_length=MAX_LENGTH,
            generator=[torch.Generator().manual_seed(seed + index) for index in range(len(prompts))],
        ).images
    return [np.asarray(image) for image in images]
