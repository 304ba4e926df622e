"""One forward pass of the FLUX.1 transformer, with latents in image layout instead of sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from extensions_built_in.diffusion_models.flux.lean import attach_lean
from extensions_built_in.diffusion_models.flux.prompt_encoding import from_rows
from extensions_built_in.diffusion_models.lean.prepare import LeanBlocks
from extensions_built_in.diffusion_models.lean.reads import READ
from toolkit.models.condition import guidance_of_each


def predict_velocity(
    transformer: FluxTransformer2DModel,
    noisy_latents: Tensor,
    sigma: Tensor,
    prompt_embeds: Tensor,
    *,
    guidance: float | Tensor | None,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """Predict the velocity `noise - latents`.

    Args:
        transformer: the FLUX.1 transformer.
        noisy_latents: mix of clean latents and noise, [B, C, h, w], h and w even.
        sigma: share of noise, [B], fp32, 0..1. The model casts it to the dtype of its first layer's output.
        prompt_embeds: prompt embeddings, [B, L + 1, D], see `prompt_encoding`; padding is attended to, as in the
            reference implementation.
        guidance: value fed to the guidance embedding, of all samples or of each, [B]; None leaves the embedding out.
            Ignored by schnell.
        references: clean latents of the reference image of each sample, [B, C, h_r, w_r], h_r and w_r even.

    Returns:
        velocity, [B, C, h, w], in the dtype of the model's last layer.
    """
    batch, _, height, width = noisy_latents.shape
    text, pooled = from_rows(prompt_embeds, transformer.config.pooled_projection_dim)
    tokens = tokens_of(noisy_latents)  # [B, S, 4C]
    num_tokens = tokens.shape[1]
    position_ids = _position_ids(noisy_latents, time=0)  # [S, 3]
    for reference in references:
        tokens = torch.cat([tokens, tokens_of(reference).to(tokens)], dim=1)
        position_ids = torch.cat([position_ids, _position_ids(reference, time=1).to(position_ids)])
    embedded_guidance = None
    if transformer.config.guidance_embeds:
        embedded_guidance = guidance_of_each(0.0 if guidance is None else guidance, batch, tokens.device)
    num_text = text.shape[1]
    reads = READ.set(slice(num_text, num_text + num_tokens))
    with reads, _without_guidance(transformer) if guidance is None else nullcontext():
        velocity = transformer(
            hidden_states=tokens,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=sigma,
            guidance=embedded_guidance,
            img_ids=position_ids,
            txt_ids=torch.zeros(num_text, 3, device=tokens.device),
            return_dict=False,
        )[0][:, :num_tokens]  # [B, S, 4C]
    # Takes the image size in pixels and divides it by 8.
    return FluxPipeline._unpack_latents(velocity, 8 * height, 8 * width, vae_scale_factor=8)


@contextmanager
def _without_guidance(transformer: FluxTransformer2DModel) -> Iterator[None]:
    """Context in which the guidance embedding, which is added to those of time and text, is zero."""
    if not transformer.config.guidance_embeds:
        yield
        return
    embedder = transformer.time_text_embed.guidance_embedder
    handle = embedder.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    try:
        yield
    finally:
        handle.remove()


def own_backward(transformer: FluxTransformer2DModel) -> LeanBlocks:
    """The backward pass that the blocks have of their own."""
    return LeanBlocks(transformer, attach_lean)


def tokens_of(latents: Tensor) -> Tensor:
    """Maps [B, C, h, w] as a sequence of 2 x 2 cells, [B, h / 2 * w / 2, 4C]."""
    batch, channels, height, width = latents.shape
    return FluxPipeline._pack_latents(latents, batch, channels, height, width)


def _position_ids(latents: Tensor, *, time: int) -> Tensor:
    """Position (t, h, w) of each cell, [h / 2 * w / 2, 3]; t is 0 for the image and 1 for its reference."""
    height, width = latents.shape[-2:]
    position_ids = FluxPipeline._prepare_latent_image_ids(1, height // 2, width // 2, latents.device, torch.float32)
    position_ids[:, 0] = time
    return position_ids
