"""FLUX.2 klein 9B KV as a model of the trainer: klein 9B with another way to read reference images."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import Flux2KleinKVPipeline
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Klein9BModel
from extensions_built_in.diffusion_models.flux2.kv import attend_by_kv, predict_velocity_kv
from toolkit.config import SampleItem
from toolkit.models.base_model import Component
from toolkit.models.condition import Condition, SampleCondition


class Flux2Klein9BKVModel(Flux2Klein9BModel):
    """FLUX.2 klein 9B KV: without references it is klein 9B; it draws with guidance 1 only."""

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

    def get_generation_pipeline(self) -> Any:
        """Flux2KleinKVPipeline around transformer and VAE, with the scheduler settings that came with the model."""
        return Flux2KleinKVPipeline(transformer=self.transformer, is_distilled=True, **self._pipeline_parts())

    def _pipeline_arguments(self, item: SampleItem, condition: SampleCondition) -> dict[str, Any]:
        embeds = self._embeds_of(condition.prompt_embeds, item.prompt)
        return {"image": list(condition.references) or None, "prompt_embeds": embeds}

    def _negative_prompt(self, item: SampleItem) -> str | None:
        return None
