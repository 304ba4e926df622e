"""The batches of a run, on the device: which examples, which captions, which latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.data.batches import BatchPlan
from toolkit.data.examples import Example
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.models.base_model import BaseModel
from toolkit.randomness import Draws
from toolkit.train.step import Batch


class Feeder:
    """Makes any batch of the job from its number alone."""

    def __init__(
        self,
        model: BaseModel,
        examples: Sequence[Example],
        plan: BatchPlan,
        prompts: PromptEncoder,
        images: ImageEncoder,
        draws: Draws,
        *,
        use_captions: bool,
    ) -> None:
        self.model = model
        self.examples = examples
        self.plan = plan
        self.prompts = prompts
        self.images = images
        self.draws = draws
        self.use_captions = use_captions

    def batches(self, step: int, accumulation: int) -> list[Batch]:
        """The micro-batches of a step."""
        return [self.batch(step * accumulation + part) for part in range(accumulation)]

    def batch(self, index: int) -> Batch:
        """Micro-batch `index` of the job."""
        members = self.plan.batch(index)
        examples = [self.examples[place] for place in members]
        latents = [
            self.images.encode(example.cropped_by(self.draws.python("crop", index, place)))
            if example.random_crop
            else self.images[example]
            for place, example in zip(members, examples, strict=True)
        ]
        embeds = [
            self.prompts[self._prompt(example, index, place)] for place, example in zip(members, examples, strict=True)
        ]
        device = self.model.device
        return Batch(
            index=index,
            latents=torch.stack(latents).to(device, torch.float32),
            prompt_embeds=torch.stack(embeds).to(device),
            loss_weight=torch.tensor([example.loss_weight for example in examples], device=device),
            num_tokens=self.model.num_tokens(*examples[0].bucket),
            references=self._references(examples, index),
        )

    def _references(self, examples: Sequence[Example], index: int) -> tuple[Tensor, ...]:
        """One tensor [B, C, h, w] for each place in the list of references; none if they are dropped.

        They are dropped for a whole batch, because its samples must have sequences of one length.
        """
        drawn = self.draws.python("reference dropout", index).random()
        if drawn < examples[0].reference_dropout_rate:
            return ()
        places = zip(*(example.references for example in examples), strict=True)
        return tuple(
            torch.stack([self.images[reference] for reference in place]).to(self.model.device, torch.float32)
            for place in places
        )

    def _prompt(self, example: Example, index: int, place: int) -> str:
        if not self.use_captions:
            return example.dropped_caption
        drawn = self.draws.python("caption dropout", index, place).random()
        return example.dropped_caption if drawn < example.caption_dropout_rate else example.caption
