"""Builds the batches of a run on the device: which examples, which captions, which latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from toolkit.config import TrainingProcessConfig
from toolkit.data.batches import BatchPlan
from toolkit.data.examples import Example
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.parallel.ranks import Ranks
from toolkit.randomness import Draws


@dataclass(frozen=True)
class Encoded:
    """Everything that was encoded before training."""

    prompts: PromptEncoder
    images: ImageEncoder


@dataclass(frozen=True)
class FeedSettings:
    """How batches are built.

    Attributes:
        accumulation: number of batches per step on each rank.
        use_captions: if False, every example is trained as if its caption had been dropped.
        guidance: guidance scale given to the model's guidance embedding.
        bypass_guidance_embedding: whether to train without the guidance embedding.
    """

    accumulation: int = 1
    use_captions: bool = True
    guidance: float = 1.0
    bypass_guidance_embedding: bool = False


class Feeder:
    """Builds any batch of the job from its index alone."""

    def __init__(
        self, model: BaseModel, plan: BatchPlan, encoded: Encoded, settings: FeedSettings, draws: Draws, ranks: Ranks
    ) -> None:
        self.model = model
        self.plan = plan
        self.encoded = encoded
        self.settings = settings
        self.draws = draws
        self.ranks = ranks

    @classmethod
    def of_run(
        cls,
        config: TrainingProcessConfig,
        examples: Sequence[Example],
        model: BaseModel,
        encoded: Encoded,
        ranks: Ranks,
    ) -> Self:
        """Create the feeder of a training run.

        Args:
            config: the run's settings.
            examples: all examples that the dataset scan found.
            model: the loaded model.
            encoded: the encoded captions and images of all examples.
            ranks: the processes that train together, and the rank of this one.
        """
        train, draws = config.train, Draws(config.training_seed)
        per_step = train.gradient_accumulation * ranks.world
        settings = FeedSettings(
            train.gradient_accumulation,
            use_captions=config.uses_captions,
            guidance=train.cfg_scale,
            bypass_guidance_embedding=train.bypass_guidance_embedding,
        )
        plan = BatchPlan(examples, train.batch_size, draws, batches_per_step=per_step)
        return cls(model, plan, encoded, settings, draws, ranks)

    def batches(self, step: int) -> list[Batch]:
        """This rank's batches for a step, dealt to the ranks in turn.

        n ranks together get the same batches as one rank that accumulates n times as many.
        """
        accumulation, world, rank = self.settings.accumulation, self.ranks.world, self.ranks.rank
        return [self.batch((step * accumulation + part) * world + rank) for part in range(accumulation)]

    def batch(self, index: int) -> Batch:
        """Build batch number `index` of the job."""
        members = self.plan.batch(index)
        examples = [self.plan.examples[member] for member in members]
        latents = [
            self.encoded.images.encode(example.cropped_by(self.draws.python("crop", index, member)))
            if example.random_crop
            else self.encoded.images[example]
            for member, example in zip(members, examples, strict=True)
        ]
        embeds = [
            self.encoded.prompts[self._prompt(example, index, member)]
            for member, example in zip(members, examples, strict=True)
        ]
        device = self.model.device
        return Batch(
            index=index,
            latents=torch.stack(latents).to(device, torch.float32),
            condition=Condition(
                torch.stack(embeds).to(device),
                guidance=self.settings.guidance,
                bypass_guidance_embedding=self.settings.bypass_guidance_embedding,
                references=self._references(examples, index),
            ),
            loss_weight=torch.tensor([example.loss_weight for example in examples], device=device),
            num_tokens=self.model.num_tokens(*examples[0].bucket),
        )

    def _references(self, examples: Sequence[Example], index: int) -> tuple[Tensor, ...]:
        """One tensor [B, C, h, w] for each position in the list of references; none if they are dropped.

        References are dropped for a whole batch at once, because its samples must have equally long sequences.
        """
        drawn = self.draws.python("reference dropout", index).random()
        if drawn < examples[0].reference_dropout_rate:
            return ()
        positions = zip(*(example.references for example in examples), strict=True)
        return tuple(
            torch.stack([self.encoded.images[reference] for reference in column]).to(self.model.device, torch.float32)
            for column in positions
        )

    def _prompt(self, example: Example, index: int, member: int) -> str:
        if not self.settings.use_captions:
            return example.dropped_caption
        drawn = self.draws.python("caption dropout", index, member).random()
        return example.dropped_caption if drawn < example.caption_dropout_rate else example.caption
