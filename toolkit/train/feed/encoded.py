"""Everything that was encoded before training, and the tensors of a batch that are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.adapters.adapter_set import view_name
from toolkit.config import SampleItem
from toolkit.data.examples import Example, ViewImage
from toolkit.encode.controls import Controls
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.encode.views import ViewEncoder
from toolkit.encode.vision import ViewInput, VisionEncoder
from toolkit.models.base_model import BaseModel


@dataclass(frozen=True)
class Encoded:
    """Everything that was encoded before training; `views` is None if no adapter sees images."""

    prompts: PromptEncoder
    images: ImageEncoder
    views: ViewEncoder | None = None
    controls: Controls | None = None

    def features(self, encoder: VisionEncoder, image: ViewImage) -> Tensor:
        """A vision encoder's features of an image, [M, E], on the CPU."""
        assert self.views is not None, "the needs of the run say which views there are"
        return self.views.features(encoder, image)

    def of_sample(
        self, views: Sequence[tuple[int, VisionEncoder, ViewImage]], item: SampleItem, model: BaseModel
    ) -> Mapping[str, Tensor]:
        """The inputs of adapters for a sample, without a batch dimension.

        Args:
            views: what adapters see: the adapter's position in the job's list, its encoder, the image.
            item: the sample.
            model: the loaded model.
        """
        found = {view_name(index): self.features(encoder, image) for index, encoder, image in views}
        return found if self.controls is None else {**found, **self.controls.of_sample(item, model)}

    def embeds(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of encoded texts, [B, L, D]."""
        return torch.stack([self.prompts[text] for text in texts])

    def mask(self, examples: Sequence[Example], like: Tensor, *, is_needed: bool) -> Tensor | None:
        """The weight of each latent cell in the loss, [B, 1, h, w].

        Args:
            examples: the samples.
            like: latents of one of them, [C, h, w].
            is_needed: whether there is a mask of ones if no sample has one, instead of None.
        """
        if not is_needed and not any(example.mask_file for example in examples):
            return None
        height, width = like.shape[-2:]
        masks = [
            torch.ones(1, height, width)
            if example.mask is None
            else functional.adaptive_avg_pool2d(self.images.mask(example.mask), (height, width))
            for example in examples
        ]
        return torch.stack(masks)

    def counterpart(self, examples: Sequence[Example]) -> Tensor | None:
        """Latents of the other image of each pair, [B, C, h, w]; None without pairs."""
        others = [example.counterpart for example in examples if example.counterpart is not None]
        if not others:
            return None
        return torch.stack([self.images[other] for other in others]).float()

    def references(self, examples: Sequence[Example]) -> tuple[Tensor, ...]:
        """One tensor [B, C, h, w] for each position in the list of references."""
        positions = zip(*(example.references for example in examples), strict=True)
        return tuple(torch.stack([self.images[reference] for reference in column]).float() for column in positions)

    def seen(self, examples: Sequence[Example], inputs: Sequence[ViewInput]) -> dict[str, Tensor]:
        """For each of these adapters, the features of the images that it sees, [B, M, E]."""
        images = [example.view for example in examples if example.view is not None]
        return {
            view_name(one.index): torch.stack([self.features(one.encoder, image) for image in images]).float()
            for one in inputs
            if images
        }
