"""The host of models from ai-toolkit's older interface, where the family is asked by flag."""

from __future__ import annotations

from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel

FLOW_MATCHING_SCHEDULER = "flowmatch"


class StableDiffusion(BaseModel):
    """BaseModel under the name that scripts and adapters for ai-toolkit look for.

    FLUX.1 will be loaded through it; FLUX.2 has a class of its own (see `toolkit.util.get_model`).
    """

    @property
    def is_flow_matching(self) -> bool:  # type: ignore[override]
        """True for models that are trained on straight paths from image to noise."""
        return self.is_flux2

    def check_noise_scheduler(self, name: str) -> None:
        """Refuse a noise scheduler that the model was not made with.

        Args:
            name: `train.noise_scheduler`.

        Raises:
            UserError: a flow-matching model with another scheduler, or the other way round.
        """
        if self.is_flow_matching != (name == FLOW_MATCHING_SCHEDULER):
            right = FLOW_MATCHING_SCHEDULER if self.is_flow_matching else "ddpm"
            raise UserError(f"train.noise_scheduler: {self.card.label} needs `{right}`, found `{name}`.")
