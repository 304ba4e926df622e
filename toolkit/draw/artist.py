"""Draws single pictures with a loaded model, the same way in the samples of a training and in a drawing job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from toolkit.adapters.adapter_set import AdapterSet
from toolkit.config import SampleItem
from toolkit.config.drawing.together import in_groups
from toolkit.data.images import Color, load_image
from toolkit.data.references import ReferenceRules, measure_references
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import SampleCondition
from toolkit.runtime.devices import autocast

RANDOM_SEEDS = 2**32  # a random seed is below this number, which other programs accept


class PromptEmbeds(Protocol):
    """Prompt -> its embeddings."""

    def __getitem__(self, prompt: str) -> Tensor:
        """The embeddings of a prompt, [L, D]."""
        ...


class Drawn(Protocol):
    """What is drawn with, on top of the model."""

    adapters: AdapterSet

    def sampled(self, network: float, adapters: float) -> AbstractContextManager[None]:
        """Within the `with` block, scale networks and adapters as one picture asks."""
        ...


def no_extras(item: SampleItem) -> Mapping[str, Tensor]:
    """The inputs of adapters for a picture, where there are no adapters."""
    return {}


@dataclass(frozen=True)
class Artist:
    """Draws pictures.

    Attributes:
        model: a model whose transformer and VAE are loaded.
        weights: what is drawn with, on top of the model.
        embeds: the encoded prompts.
        rules: how reference images are resized before the model sees them.
        background: color behind transparent pixels of reference images.
        extras: inputs of adapters for an item, without a batch dimension.
    """

    model: BaseModel
    weights: Drawn
    embeds: PromptEmbeds
    rules: ReferenceRules
    background: Color = (0, 0, 0)
    extras: Callable[[SampleItem], Mapping[str, Tensor]] = no_extras

    @contextmanager
    def pipeline(self) -> Iterator[Any]:
        """The model's pipeline to draw with; within the block, adapters know its passes and where its steps end."""
        adapters = self.weights.adapters
        with adapters.telling_passes_apart(self.model.transformer):
            pipeline = self.model.get_generation_pipeline()
            with adapters.following(pipeline):
                yield pipeline

    def draw(self, pipeline: Any, items: Sequence[SampleItem]) -> list[Image.Image]:
        """Draw pictures in one batch. None depends on what was drawn before, or, except for rounding, on the others.

        Args:
            pipeline: what `pipeline` yields.
            items: what to draw: one, or several of one of `in_groups`.

        Raises:
            UserError: a reference image cannot be used.
        """
        model, item = self.model, items[0]
        generators = [torch.Generator().manual_seed(one.seed) for one in items]
        prompts = dict.fromkeys(prompt for one in items for prompt in one.prompts(model.card))
        embeds = {prompt: self.embeds[prompt].to(model.device) for prompt in prompts}
        extras = {name: tensor.to(model.device) for name, tensor in self.extras(item).items()}
        condition = SampleCondition(embeds, references=self._references(item), extras=extras)
        num_noisy = model.num_tokens(item.width, item.height)
        with (
            autocast(model.device, model.dtype, keeps_copies=model.layout.is_whole),
            self.weights.sampled(item.network_multiplier, item.adapter_conditioning_scale),
            self.weights.adapters.sampling(condition, item.prompt, num_noisy=num_noisy) as condition,
        ):
            if len(items) == 1:
                return [model.generate_single_image(pipeline, item, condition, generators[0])]
            return model.generate_images(pipeline, items, condition, generators)

    def groups(self, items: Sequence[SampleItem], *, most: int) -> list[list[int]]:
        """The positions of the items, in groups to be drawn in one batch. With adapters, each is drawn alone."""
        return in_groups(items, self.model.card, most=1 if self.weights.adapters.adapters else most)

    def _references(self, item: SampleItem) -> list[Image.Image]:
        """The reference images, at the sizes they would have in training."""
        infos, problems = measure_references(item.references, self.rules.limits)
        if problems:
            raise UserError("\n".join(str(problem) for problem in problems))
        pictures = self.rules.fit(infos, (item.width, item.height), background=self.background)
        return [load_image(picture, background=picture.background) for picture in pictures]
