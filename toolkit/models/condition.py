"""What a prediction depends on beside noise and time: one value, so that a new kind of input changes no signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """What goes into a prediction beside the noisy latents and the timestep.

    Attributes:
        prompt_embeds: output of the text encoder, [B, L, D].
        guidance: value of the guidance embedding, for models that have one.
        bypass_guidance_embedding: predict without the guidance embedding; means nothing to models that cannot.
        references: clean latents of the first, second, ... reference image of each sample, each [B, C, h_i, w_i];
            none for models without the capability `references`.
        extras: inputs of adapters by name, such as the features of a vision encoder; each starts with dimension B.
    """

    prompt_embeds: Tensor
    guidance: float = 1.0
    bypass_guidance_embedding: bool = False
    references: Sequence[Tensor] = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SampleCondition:
    """What one sample is drawn from beside its noise.

    Attributes:
        prompt_embeds: prompt -> [L, D]; holds every text that `SampleItem.prompts` names.
        references: the sample's reference images, RGB, at the sizes that the model sees.
        extras: inputs of adapters by name, without a batch dimension.
    """

    prompt_embeds: Mapping[str, Tensor]
    references: Sequence[Image.Image] = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)
