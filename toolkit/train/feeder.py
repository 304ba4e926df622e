"""Builds the batches of a run on the device: which examples, which captions, which latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from toolkit.config import TrainingProcessConfig
from toolkit.data.batches import BatchPlan, shares_of
from toolkit.data.examples import Example
from toolkit.encode.vision import ViewInput, view_inputs
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch, PreservedWords, drawn_noise
from toolkit.objectives.preserved_texts import NOTHING_PRESERVED, PreservedTexts
from toolkit.parallel.ranks import Ranks
from toolkit.plan.objective_needs import avoided_prompt, objective_words
from toolkit.randomness import Draws
from toolkit.runtime.devices import make_current
from toolkit.runtime.prefetch import Prefetch
from toolkit.train.feed.encoded import Encoded as Encoded

_MOST_NAMES = 8


@dataclass(frozen=True)
class FeedSettings:
    """How batches are built.

    Attributes:
        accumulation: number of batches per step on each rank.
        use_captions: if False, every example is trained as if its caption had been dropped.
        guidance: guidance scale given to the model's guidance embedding.
        bypass_guidance_embedding: whether to train without the guidance embedding.
        num_steps: number of steps of the whole run.
        avoided: the prompt that a guided teacher avoids; None if there is none.
        words: further prompts that the objective predicts for, by name.
        preserved: the words for which the prediction stays that of the base model.
        is_alike: whether every batch has all inputs that any batch of the run has, so that every rank makes the same
            passes: a sharded model waits for all ranks in each.
        views: what adapters read of each image.
        drops_views: whether images are dropped at the adapters' rates. Without a network, nothing else is trained.
    """

    accumulation: int = 1
    use_captions: bool = True
    guidance: float = 1.0
    bypass_guidance_embedding: bool = False
    num_steps: int = 1
    avoided: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    preserved: PreservedTexts = NOTHING_PRESERVED
    is_alike: bool = False
    views: tuple[ViewInput, ...] = ()
    drops_views: bool = True


class Feeder:
    """Builds any batch of the job from its index alone; `needs_vae`: with the VAE, as pixels are others at each use."""

    def __init__(
        self, model: BaseModel, plan: BatchPlan, encoded: Encoded, settings: FeedSettings, draws: Draws, ranks: Ranks
    ) -> None:
        self.model = model
        self.plan = plan
        self.encoded = encoded
        self.settings = settings
        self.draws = draws
        self.ranks = ranks
        self.needs_vae = any(example.is_drawn for example in plan.examples)
        self._ahead: Prefetch[list[Batch]] | None = None

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
            num_steps=train.steps,
            avoided=avoided_prompt(config, model.card),
            words=objective_words(config),
            preserved=PreservedTexts.of_run(config),
            is_alike=ranks.world > 1,
            views=view_inputs(config.adapter),
            drops_views=config.network is not None,
        )
        shares = shares_of(config.datasets)
        plan = BatchPlan(examples, train.batch_size, draws, batches_per_step=per_step, shares=shares)
        return cls(model, plan, encoded, settings, draws, ranks)

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Within the `with` block, the next step's batches are made and their noise is drawn while a step is computed.

        Not if the VAE makes them, because it shares the device with the step.
        """
        if self.needs_vae:
            return (yield)
        # The current card is one for each thread, and pinning memory opens it.
        prepare = partial(make_current, self.model.device)
        with Prefetch(self._pinned, num_steps=self.settings.num_steps, prepare=prepare) as self._ahead:
            try:
                yield
            finally:
                self._ahead = None

    def batches(self, step: int) -> list[Batch]:
        """This rank's batches for a step, dealt to the ranks in turn, on the model's device.

        n ranks together get the same batches as one rank that accumulates n times as many.
        """
        found = self._on_cpu(step) if self._ahead is None else self._ahead.get(step)
        return [batch.to(self.model.device) for batch in found]

    def _pinned(self, step: int) -> list[Batch]:
        batches = [replace(batch, noise=drawn_noise(batch, self.draws)) for batch in self._on_cpu(step)]
        return [batch.pinned() for batch in batches] if self.model.device.type == "cuda" else batches

    def _on_cpu(self, step: int) -> list[Batch]:
        """The batches of a step on the CPU, except for what the VAE has just encoded."""
        accumulation, world, rank = self.settings.accumulation, self.ranks.world, self.ranks.rank
        return [self._assembled((step * accumulation + part) * world + rank) for part in range(accumulation)]

    def num_samples(self, step: int) -> int:
        """The number of samples in the batches of all ranks for a step; the last batch of a bucket may be short."""
        per_step = self.settings.accumulation * self.ranks.world
        return sum(len(self.plan.batch(index)) for index in range(step * per_step, (step + 1) * per_step))

    def describe(self, step: int) -> str:
        """What the batches of all ranks for a step hold, in words."""
        per_step = self.settings.accumulation * self.ranks.world
        members = [it for index in range(step * per_step, (step + 1) * per_step) for it in self.plan.batch(index)]
        examples = [self.plan.examples[member] for member in members]
        sizes = ", ".join(dict.fromkeys(f"{width} x {height}" for width, height in (one.bucket for one in examples)))
        names = list(dict.fromkeys(example.path.name for example in examples))
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return f"{len(examples)} images of {sizes}: {', '.join(names[:_MOST_NAMES])}{more}"

    def batch(self, index: int) -> Batch:
        """Build batch number `index` of the job, on the model's device."""
        return self._assembled(index).to(self.model.device)

    def _assembled(self, index: int) -> Batch:
        members = self.plan.batch(index)
        examples = [self._drawn(index, member) for member in members]
        images = self.encoded.images
        latents = [images.encode(example) if example.is_drawn else images[example] for example in examples]
        prompts = [self._prompt(example, index, member) for member, example in zip(members, examples, strict=True)]
        if any(example.is_drawn for example in examples):
            latents = [one.to(self.model.device) for one in latents]
        words, avoided = self.settings.words, self.settings.avoided
        return Batch(
            index=index,
            latents=torch.stack(latents).float(),
            condition=Condition(
                self.encoded.embeds(prompts),
                guidance=self.settings.guidance,
                bypass_guidance_embedding=self.settings.bypass_guidance_embedding,
                references=() if self._drops_references(examples, index) else self.encoded.references(examples),
                extras={
                    **self.encoded.seen(examples, self._kept_views(index)),
                    **self._controls(examples, latents, [(index, member) for member in members]),
                },
            ),
            loss_weight=torch.tensor([example.loss_weight for example in examples]),
            datasets=torch.tensor([example.dataset_index for example in examples]),
            num_tokens=self.model.num_tokens(*examples[0].bucket),
            batches_per_step=self.settings.accumulation * self.ranks.world,
            progress=index // (self.settings.accumulation * self.ranks.world) / self.settings.num_steps,
            avoided=None if avoided is None else self.encoded.embeds([avoided] * len(members)),
            words={name: self.encoded.embeds([text] * len(members)) for name, text in words.items()},
            preserved=self._preserved(examples, prompts),
            is_prior=self._is_prior(examples),
            mask=self.encoded.mask(examples, latents[0], is_needed=self._has_masks),
            network_weight=examples[0].network_weight,
            counterpart=self.encoded.counterpart(examples),
        )

    def fixed(self, example: Example, text: str, count: int) -> Batch:
        """`count` equal samples of an example with an encoded text, on the model's device: nothing is drawn."""
        examples, latents = [example] * count, [self.encoded.images[example]] * count
        batch = Batch(
            index=0,
            latents=torch.stack(latents).float(),
            condition=Condition(
                self.encoded.embeds([text] * count),
                guidance=self.settings.guidance,
                bypass_guidance_embedding=self.settings.bypass_guidance_embedding,
                references=self.encoded.references(examples),
                extras={**self.encoded.seen(examples, self.settings.views), **self._controls(examples, latents, None)},
            ),
            loss_weight=torch.ones(count),
            num_tokens=self.model.num_tokens(*example.bucket),
            mask=self.encoded.mask(examples, latents[0], is_needed=self._has_masks),
            network_weight=example.network_weight,
        )
        return batch.to(self.model.device)

    @property
    def _has_masks(self) -> bool:
        """Whether every batch has masks."""
        return self.settings.is_alike and any(example.mask_file for example in self.plan.examples)

    def _drawn(self, index: int, member: int) -> Example:
        """A member of a batch, in the crop and colours that are drawn for it."""
        cropped = self.plan.examples[member].cropped_by(self.draws.python("crop", index, member))
        return cropped.colored_by(self.draws.python("colors", index, member))

    def _preserved(self, examples: Sequence[Example], prompts: Sequence[str]) -> PreservedWords | None:
        """The words that are preserved while each example is trained with its prompt; a prompt stands for none."""
        of, is_any = self.settings.preserved.for_words, self.settings.preserved.is_any
        texts = [of(example, prompt) for example, prompt in zip(examples, prompts, strict=True)] if is_any else []
        if not is_any or (set(texts) == {None} and not self.settings.is_alike):
            return None
        words = [prompt if text is None else text for text, prompt in zip(texts, prompts, strict=True)]
        weight = torch.tensor([float(text is not None) for text in texts])
        return PreservedWords(self.encoded.embeds(words), weight)

    def _is_prior(self, examples: Sequence[Example]) -> Tensor | None:
        """Which targets are the base model's predictions, [B]; None if none is."""
        found = [example.is_prior for example in examples]
        is_needed = any(found) or (self.settings.is_alike and any(example.is_prior for example in self.plan.examples))
        return torch.tensor(found) if is_needed else None

    def _controls(
        self, examples: Sequence[Example], latents: Sequence[Tensor], counters: Sequence[tuple[int, int]] | None
    ) -> dict[str, Tensor]:
        """The control pictures, by the names of the adapter's inputs; without counters none is dropped."""
        controls = self.encoded.controls
        if controls is None:
            return {}
        made = controls.of_batch(examples, latents, self.draws, counters)
        return {name: tensor.float() for name, tensor in made.items()}

    def _drops_references(self, examples: Sequence[Example], index: int) -> bool:
        """Whether a batch is trained without references: all of it, since its samples must be equally long."""
        return self.draws.python("reference dropout", index).random() < examples[0].reference_dropout_rate

    def _kept_views(self, index: int) -> list[ViewInput]:
        """The adapters that see images in a batch; for the others, images are dropped for the whole batch."""
        return [
            one
            for one in self.settings.views
            if not self.settings.drops_views
            or self.draws.python("image dropout", index, one.index).random() >= one.dropout_rate
        ]

    def _prompt(self, example: Example, index: int, member: int) -> str:
        if not self.settings.use_captions:
            return example.dropped_caption
        drawn = self.draws.python("caption dropout", index, member).random()
        if drawn < example.caption_dropout_rate:
            return example.dropped_caption
        return example.caption_by(self.draws.python("caption", index, member))
