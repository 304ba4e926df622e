"""FLUX.2 klein 9B KV: klein 9B that processes references once; sampling caches their keys and values in the first step.

The sequence is [text, references, noisy image]. Reference tokens are modulated as for sigma = 0 and attend only to
references; text and image attend to everything. So the reference tokens do not depend on the step.

Source: diffusers' Flux2KleinKVPipeline and the `extract` mode of its Flux2Transformer2DModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import Flux2KleinKVPipeline, Flux2Pipeline, Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2KVAttnProcessor, Flux2KVParallelSelfAttnProcessor
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Klein9BModel
from extensions_built_in.diffusion_models.flux2.transformer import pack_references
from toolkit.config import SampleItem
from toolkit.models.base_model import Component
from toolkit.models.condition import Condition, SampleCondition


class Flux2Klein9BKVModel(Flux2Klein9BModel):
    """FLUX.2 klein 9B KV. Without references it is klein 9B; it samples with guidance 1 only."""

    arch: ClassVar[str] = "flux2_klein_9b_kv"

    def load(self, component: Component) -> None:
        """See BaseModel.load."""
        is_new = getattr(self, component) is None
        super().load(component)
        if component == "transformer" and is_new:
            attend_by_kv(self.transformer)

    def get_noise_prediction(self, noisy_latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """See BaseModel.get_noise_prediction."""
        if not condition.references:
            return super().get_noise_prediction(noisy_latents, timestep, condition)
        return predict_velocity_kv(
            self.transformer, noisy_latents, timestep / 1000, condition.prompt_embeds, condition.references
        )

    def noisy_tokens(self, num_noisy: int, num_image: int) -> slice:
        """See BaseModel.noisy_tokens. Here references come first."""
        return slice(num_image - num_noisy, num_image)

    def get_generation_pipeline(self) -> Any:
        """Flux2KleinKVPipeline with the transformer, the VAE, and the scheduler settings that came with the model."""
        return Flux2KleinKVPipeline(transformer=self.transformer, is_distilled=True, **self._pipeline_parts())

    def _pipeline_arguments(self, items: Sequence[SampleItem], condition: SampleCondition) -> dict[str, Any]:
        embeds = self._embeds_of(condition, [item.prompt for item in items])
        return {"image": list(condition.references) or None, "prompt_embeds": embeds}


def attend_by_kv(transformer: Flux2Transformer2DModel) -> None:
    """Install the attention that handles references; without references it computes the same as the usual one."""
    for block in transformer.transformer_blocks:
        block.attn.set_processor(Flux2KVAttnProcessor())
    for block in transformer.single_transformer_blocks:
        block.attn.set_processor(Flux2KVParallelSelfAttnProcessor())


def predict_velocity_kv(
    transformer: Flux2Transformer2DModel,
    noisy_latents: Tensor,
    sigma: Tensor,
    prompt_embeds: Tensor,
    references: Sequence[Tensor],
) -> Tensor:
    """Predict the velocity `noise - latents` given references, as in the first step of sampling.

    Args:
        transformer: a transformer prepared by `attend_by_kv`.
        noisy_latents: mix of clean latents and noise, [B, C, h, w].
        sigma: share of noise in the image, [B], fp32, 0..1; references always have 0.
        prompt_embeds: prompt embeddings, [B, L, D].
        references: clean latents of at least one reference image, each [B, C, h_i, w_i].

    Returns:
        velocity, [B, C, h, w], in the dtype of the model's last layer.
    """
    batch, channels, height, width = noisy_latents.shape
    tokens = Flux2Pipeline._pack_latents(noisy_latents)  # [B, h * w, C]
    image_ids = Flux2Pipeline._prepare_latent_ids(noisy_latents[:1]).to(tokens.device)  # [1, h * w, 4]
    packed, reference_ids = pack_references(references, like=tokens)
    velocity, _ = transformer(
        hidden_states=torch.cat([packed, tokens], dim=1),  # [B, R + h * w, C]
        encoder_hidden_states=prompt_embeds,
        timestep=sigma,
        guidance=None,
        img_ids=torch.cat([reference_ids.to(image_ids), image_ids], dim=1),
        txt_ids=Flux2Pipeline._prepare_text_ids(prompt_embeds[:1]).to(tokens.device),
        return_dict=False,
        kv_cache_mode="extract",
        num_ref_tokens=packed.shape[1],
    )  # [B, h * w, C]: the transformer removes the references
    return velocity.transpose(1, 2).reshape(batch, channels, height, width)
