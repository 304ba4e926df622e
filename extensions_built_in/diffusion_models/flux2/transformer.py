"""A pass of the FLUX.2 transformer with references, on latents in image layout instead of sequences.

References follow the noisy image in the sequence, each with its own time coordinate. Source: Black Forest Labs' FLUX.2
sampling code and diffusers' Flux2Pipeline, whose helpers compute the position ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import Flux2Pipeline, Flux2Transformer2DModel
from torch import Tensor, nn

from extensions_built_in.diffusion_models.flux2.lean import attach_lean
from extensions_built_in.diffusion_models.lean.prepare import LeanBlocks
from extensions_built_in.diffusion_models.lean.reads import READ
from toolkit.models.condition import guidance_of_each


def predict_velocity(
    transformer: Flux2Transformer2DModel,
    noisy_latents: Tensor,
    sigma: Tensor,
    prompt_embeds: Tensor,
    *,
    guidance: float | Tensor,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """Predict the velocity `noise - latents`.

    Args:
        transformer: the FLUX.2 transformer.
        noisy_latents: mix of clean latents and noise, [B, C, h, w]. If they are fp32, the model also sees sigma in
            fp32: bf16 can only distinguish 506 of 1000 timesteps.
        sigma: share of noise, [B], fp32, 0..1.
        prompt_embeds: prompt embeddings, [B, L, D], padded to the full length; padding is attended to, as in the
            reference implementation.
        guidance: value fed to the guidance embedding, of all samples or of each, [B]; ignored by variants without one.
        references: clean latents of reference images, each [B, C, h_i, w_i]; the same sigma applies to all tokens, as
            in the reference implementation.

    Returns:
        velocity, [B, C, h, w], in the dtype of the model's last layer.
    """
    batch, channels, height, width = noisy_latents.shape
    tokens = Flux2Pipeline._pack_latents(noisy_latents)  # [B, h * w, C]
    # All samples of a batch share one layout, so the ids of the first sample are valid for all.
    image_ids = Flux2Pipeline._prepare_latent_ids(noisy_latents[:1]).to(tokens.device)  # [1, h * w, 4]
    num_tokens = tokens.shape[1]
    tokens, image_ids = append_references(tokens, image_ids, references)
    text_ids = Flux2Pipeline._prepare_text_ids(prompt_embeds[:1]).to(tokens.device)  # [1, L, 4]
    embedded_guidance = None
    if transformer.config.guidance_embeds:
        embedded_guidance = guidance_of_each(guidance, batch, tokens.device)
    num_text = prompt_embeds.shape[1]
    with READ.set(slice(num_text, num_text + num_tokens)):
        velocity = transformer(
            hidden_states=tokens,
            encoder_hidden_states=prompt_embeds,
            timestep=sigma,
            guidance=embedded_guidance,
            img_ids=image_ids,
            txt_ids=text_ids,
            return_dict=False,
        )[0][:, :num_tokens]  # [B, h * w, C]
    return velocity.transpose(1, 2).reshape(batch, channels, height, width)


def append_references(tokens: Tensor, image_ids: Tensor, references: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The image part of the sequence with references: noisy image, reference 1, reference 2, ...

    Args:
        tokens: tokens of the noisy image, [B, S, C].
        image_ids: positions (t, h, w, l) of the tokens, [1, S, 4], t = 0.
        references: clean latents of the references, each [B, C, h_i, w_i]. Their sizes are the same for all samples of
            a batch, because the batch shares one list of positions.

    Returns:
        tokens [B, S + sum of h_i * w_i, C] and their positions, with t = 10, 20, ... for the references.
    """
    if not references:
        return tokens, image_ids
    packed, reference_ids = pack_references(references, like=tokens)
    return torch.cat([tokens, packed], dim=1), torch.cat([image_ids, reference_ids.to(image_ids)], dim=1)


def pack_references(references: Sequence[Tensor], *, like: Tensor) -> tuple[Tensor, Tensor]:
    """The references as a sequence of their own.

    Args:
        references: clean latents, see `append_references`.
        like: a tensor with the dtype and device of the result.

    Returns:
        tokens [B, sum of h_i * w_i, C] and their positions, with t = 10, 20, ...
    """
    packed = [Flux2Pipeline._pack_latents(latents).to(like) for latents in references]  # each [B, h_i * w_i, C]
    reference_ids = Flux2Pipeline._prepare_image_ids([latents[:1] for latents in references])  # [1, sum, 4]
    return torch.cat(packed, dim=1), reference_ids


def pass_through(layer: nn.Module) -> None:
    """Let a frozen layer give what it gets, because that has been through the layer before."""

    def forward(rows: Tensor) -> Tensor:
        assert not any(weight.requires_grad for weight in layer.parameters()), "texts were encoded as if it were frozen"
        return rows

    layer.forward = forward


def own_backward(transformer: Flux2Transformer2DModel) -> LeanBlocks:
    """The backward pass that the blocks have of their own."""
    return LeanBlocks(transformer, attach_lean)
