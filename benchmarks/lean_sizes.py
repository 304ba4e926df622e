"""The models and inputs that steps are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor

from benchmarks.random_model import TINY, empty_transformer, random_recipe, transformer_build
from benchmarks.step_cells import RANK

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a step is given.

    Attributes:
        latents: [B, C, side, side].
        embeds: of the prompts, [B, L, D].
        references: latents of each reference image, as `latents`.
    """

    latents: Tensor
    embeds: Tensor
    references: Sequence[Tensor]


@dataclass(frozen=True)
class Size:
    """A model and its inputs.

    Attributes:
        name: of `transformer_build`, or `tiny` for the model that is shipped.
        side: tokens along a side of the image, and of each reference.
        num_text: tokens of the prompt.
        batch: samples of a step.
        rank: of the LoRA.
        references: reference images of a sample.
    """

    name: str
    side: int
    num_text: int
    batch: int = 1
    rank: int = RANK
    references: int = 0

    def transformer(self, dtype: torch.dtype) -> Any:
        """The transformer; equal weights at every call."""
        if self.name == "tiny":
            model = Flux2Transformer2DModel.from_pretrained(TINY, subfolder="transformer", torch_dtype=torch.bfloat16)
        else:
            torch.manual_seed(0)
            empty = empty_transformer(transformer_build(self.name))
            model = random_recipe(empty).load(dtype=torch.bfloat16, device=CPU)
        for parameter in model.requires_grad_(False).parameters():
            parameter.data = parameter.data.to(dtype)
        return model

    def inputs(self, config: Any) -> Inputs:
        """Random inputs of a transformer with this config; equal ones at every call."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, config.in_channels, self.side, self.side)
        latents = torch.randn(shape, generator=generator)
        embeds = torch.randn(self.batch, self.num_text, config.joint_attention_dim, generator=generator)
        return Inputs(latents, embeds, [torch.randn(shape, generator=generator) for _ in range(self.references)])


SIZES = {"tiny": Size("tiny", 8, 48), "small": Size("small", 16, 512), "mid": Size("mid", 16, 512)}
