"""Everything a prediction is conditioned on, as one value: a new kind of input changes no signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """Inputs of a prediction other than the noisy latents and the timestep.

    Attributes:
        prompt_embeds: output of the text encoder, [B, L, D].
        guidance: value fed to the guidance embedding, for models that have one: of all samples, or of each, [B], fp32.
        bypass_guidance_embedding: predict without the guidance embedding; ignored by models that cannot.
        references: clean latents of the first, second, ... reference image of every sample, each [B, C, h_i, w_i];
            empty for models without the capability `references`.
        extras: inputs of adapters by name, such as the features of a vision encoder; the first dimension is B.
    """

    prompt_embeds: Tensor
    guidance: float | Tensor = 1.0
    bypass_guidance_embedding: bool = False
    references: Sequence[Tensor] = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)


def guidance_of_each(guidance: float | Tensor, num_samples: int, device: torch.device) -> Tensor:
    """The guidance of each sample, [B], fp32, from one value for all or one for each."""
    return torch.as_tensor(guidance, dtype=torch.float32, device=device).expand(num_samples)


@dataclass(frozen=True, eq=False)
class SampleCondition:
    """Inputs of one generated sample other than its noise.

    Attributes:
        prompt_embeds: embedding [L, D] of every text that `SampleItem.prompts` names, by text.
        references: the sample's reference images, RGB, at the sizes the model sees.
        extras: inputs of adapters by name, without a batch dimension.
    """

    prompt_embeds: Mapping[str, Tensor]
    references: Sequence[Image.Image] = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)
