"""A few steps of training the tiny FLUX.2, without a job around them, and what came of it on held-out examples.

Pictures are half as wide as the examples' and of a text only the rows that its words take are kept: a third of the
tokens, and of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scripts.flux2_tiny.adapter_data import AdapterExample
from scripts.flux2_tiny.vae import to_pixels
from toolkit.config import NetworkConfig, TrainConfig
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.path import mix
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.learner import Learner, build_learner
from toolkit.train.prediction import Prediction
from toolkit.train.step import Stepper
from toolkit.train.trainable import NetworkWeights, TrainableWeights

SIDE_PX = 64
NUM_TOKENS = (SIDE_PX // 16) ** 2
"""Image tokens of a picture."""
NUM_ROWS = 24
"""Of the 48 of an encoded text; the rest is padding."""
LIKE_THE_EXAMPLES = {
    "lr": 2e-3,
    "lr_scheduler": "cosine",
    "optimizer": "adamw",
    "timestep_type": "sigmoid",
    "content_or_style": "content",
    "dtype": "fp32",
}


@dataclass(frozen=True)
class Encoded:
    """Examples as the model sees them.

    Attributes:
        latents: [N, C, h, w].
        embeds: [N, L, D].
        shown: the second images, in order.
    """

    latents: Tensor
    embeds: Tensor
    shown: Sequence[Image.Image | None]


@torch.no_grad()
def encoded(model: BaseModel, examples: Sequence[AdapterExample]) -> Encoded:
    """Encode examples with a model's text encoder and VAE."""
    latents = latents_of(model, [example.picture for example in examples])
    embeds = texts_of(model, [example.caption for example in examples])
    return Encoded(latents, embeds, [example.shown for example in examples])


@torch.no_grad()
def latents_of(model: BaseModel, pictures: Sequence[Image.Image]) -> Tensor:
    """Encode pictures with a model's VAE, [N, C, h, w]."""
    return model.encode_images(torch.stack([to_pixels(picture.resize((SIDE_PX, SIDE_PX))) for picture in pictures]))


@torch.no_grad()
def texts_of(model: BaseModel, texts: Sequence[str]) -> Tensor:
    """Encode texts, [N, L, D]."""
    return model.get_prompt_embeds(list(texts))[:, :NUM_ROWS]


def small_lora(model: BaseModel, draws: Draws, **settings: Any) -> NetworkWeights:
    """A LoRA of rank 32 on a model, as in the examples."""
    config = {"type": "lora", "linear": 32, "linear_alpha": 32, "transformer_only": False, **settings}
    network = Network(model, NetworkConfig.model_validate(config), draws)
    network.apply()
    return NetworkWeights(network)


def train_briefly(
    model: BaseModel,
    weights: TrainableWeights,
    examples: Encoded,
    extras: Mapping[str, Tensor],
    *,
    steps: int,
    batch_size: int,
    draws: Draws,
    avoided: Tensor | None = None,
    **train: Any,
) -> Learner:
    """Train weights of a model for a few steps on random examples.

    Args:
        model: the model, with its transformer.
        weights: what is trained.
        examples: what it is trained on.
        extras: what adapters see of each example, [N, ...].
        steps: number of steps.
        batch_size: examples per step.
        draws: random numbers.
        avoided: embeddings of what a guided teacher avoids, [1, L, D].
        train: settings that differ from the examples'.
    """
    config = TrainConfig.model_validate({**LIKE_THE_EXAMPLES, **train, "steps": steps, "batch_size": batch_size})
    learner = build_learner(model, weights, config, draws=draws, ranks=OneProcess())
    stepper = Stepper(learner, OBJECTIVES[config.objective].load().from_config(config), draws, OneProcess())
    model.transformer.train()
    for step in range(steps):
        chosen = draws.python("order", step).sample(range(len(examples.latents)), batch_size)
        condition = Condition(examples.embeds[chosen], extras={name: tensor[chosen] for name, tensor in extras.items()})
        batch = Batch(step, examples.latents[chosen], condition, torch.ones(batch_size), NUM_TOKENS)
        if avoided is not None:
            batch = replace(batch, avoided=avoided.expand(batch_size, -1, -1))
        stepper.train_step(step, [batch])
    model.transformer.eval()
    return learner


@torch.no_grad()
def loss_at(sigma: float, learner: Learner, examples: Encoded, extras: Mapping[str, Tensor]) -> float:
    """Mean squared error of the velocity of examples at a noise level, for the same noise each time."""
    noise = Draws(0).normal(tuple(examples.latents.shape), "noise")
    levels = torch.full((len(noise),), sigma)
    predict = prediction(learner)
    velocity = predict(mix(examples.latents, noise, levels), levels, Condition(examples.embeds, extras=extras))
    return float((velocity - (noise - examples.latents)).square().mean())


def prediction(learner: Learner) -> Prediction:
    """What a learner's model predicts of pictures."""
    return Prediction(learner.model, learner.weights, Draws(0), index=0, num_tokens=NUM_TOKENS)
