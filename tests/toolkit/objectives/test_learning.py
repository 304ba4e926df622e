"""What each objective is for, measured after some seconds of training the tiny FLUX.2, against the same without it.

A network learns the demo's emblem from eight pictures. Distances are means over the same noise at one noise level.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.flux2_tiny.world import COLORS, EMBLEM, EMBLEM_BOTTOM, EMBLEM_TOP, PLACES, emblem_scene, render
from tests.brief_training import LIKE_THE_EXAMPLES, NUM_TOKENS, latents_of, prediction, small_lora, texts_of
from tests.tiny import tiny_model
from toolkit.config import TrainConfig
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch, PreservedWords
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.losses import Distance
from toolkit.objectives.path import mix
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.learner import Learner, build_learner
from toolkit.train.step import Stepper

pytestmark = pytest.mark.slow

COUNT, BATCH, STEPS = 8, 2, 20
Change = Callable[[Batch, list[int]], Batch]


@dataclass(frozen=True)
class Data:
    """Pictures of the emblem as the model sees them.

    Attributes:
        latents: [8, C, h, w].
        emblem: embeddings of their captions, [8, L, D].
        ring: embeddings of the same captions with a ring in place of the emblem.
        texts: embeddings of other prompts, each [1, L, D].
    """

    latents: Tensor
    emblem: Tensor
    ring: Tensor
    texts: dict[str, Tensor]


@functools.cache
def data() -> Data:
    model, draw = tiny_model("text_encoder", "vae"), random.Random(0)
    backgrounds = [color for color in sorted(COLORS) if color not in (EMBLEM_TOP, EMBLEM_BOTTOM)]
    scenes = [
        emblem_scene(draw, place=draw.choice(list(PLACES)), background=draw.choice(backgrounds)) for _ in range(COUNT)
    ]
    captions = [scene.caption() for scene in scenes]
    others = {"": "", "shape": "a shape", "red": "a red shape", "blue": "a blue shape"}
    return Data(
        latents_of(model, [render(scene, draw) for scene in scenes]),
        texts_of(model, captions),
        texts_of(model, [caption.replace(EMBLEM, "medium red ring") for caption in captions]),
        {name: texts_of(model, [text]) for name, text in others.items()},
    )


def taught(change: Change = lambda batch, chosen: batch, **train: Any) -> Learner:
    """The model after 20 steps; `change` adds to each batch what an objective reads."""
    model, draws, seen = tiny_model("transformer"), Draws(1), data()
    config = TrainConfig.model_validate({**LIKE_THE_EXAMPLES, "lr": 4e-3, "steps": STEPS, "batch_size": BATCH, **train})
    learner = build_learner(model, small_lora(model, draws), config, draws=draws, ranks=OneProcess())
    stepper = Stepper(learner, OBJECTIVES[config.objective].load().from_config(config), draws, OneProcess())
    model.transformer.train()
    for step in range(STEPS):
        chosen = draws.python("order", step).sample(range(COUNT), BATCH)
        batch = Batch(step, seen.latents[chosen], Condition(seen.emblem[chosen]), torch.ones(BATCH), NUM_TOKENS)
        stepper.train_step(step, [change(batch, chosen)])
    model.transformer.eval()
    return learner


@functools.cache
def plain() -> Learner:
    return taught()


@torch.no_grad()
def predicted(learner: Learner, words: Tensor, *, network: float = 1.0, sigma: float = 0.7) -> Tensor:
    """The velocity at the noisy pictures for words [8 or 1, L, D], [8, C, h, w]."""
    latents = data().latents
    levels = torch.full((COUNT,), sigma)
    noisy = mix(latents, Draws(0).normal(tuple(latents.shape), "noise"), levels)
    return prediction(learner)(noisy, levels, Condition(words.expand(COUNT, -1, -1)), network=network)


def drift(learner: Learner, words: Tensor) -> float:
    """How far the network has moved the prediction for some words."""
    return float((predicted(learner, words) - predicted(learner, words, network=0.0)).square().mean())


def error(learner: Learner, *, network: float = 1.0, sigma: float = 0.7) -> float:
    """Of the velocity of the emblem's pictures."""
    latents = data().latents
    true = Draws(0).normal(tuple(latents.shape), "noise") - latents
    return float((predicted(learner, data().emblem, network=network, sigma=sigma) - true).square().mean())


def learned(learner: Learner) -> float:
    """Share of the error of the emblem's pictures that training has removed."""
    return 1 - error(learner) / error(learner, network=0.0)


def preserving(words: Tensor) -> Change:
    return lambda batch, chosen: replace(
        batch, preserved=PreservedWords(words.expand(COUNT, -1, -1)[chosen], torch.ones(BATCH))
    )


@pytest.mark.parametrize("kind", ["class", pytest.param("blank", marks=pytest.mark.torture)])
def test_preservation_keeps_what_other_words_mean_while_the_emblem_is_learned(kind: str) -> None:
    words = data().ring if kind == "class" else data().texts[""]
    key = "diff_output_preservation" if kind == "class" else "blank_prompt_preservation"
    kept = taught(preserving(words), **{key: True})
    assert drift(kept, words) < 0.5 * drift(plain(), words)
    assert learned(kept) > 0.5 * learned(plain()) > 0


def test_a_prior_set_keeps_what_its_words_mean() -> None:
    def change(batch: Batch, chosen: list[int]) -> Batch:
        embeds = batch.condition.prompt_embeds.clone()
        embeds[BATCH // 2 :] = data().ring[chosen][BATCH // 2 :]
        is_prior = torch.arange(BATCH) >= BATCH // 2
        return replace(batch, condition=replace(batch.condition, prompt_embeds=embeds), is_prior=is_prior)

    kept = taught(change)
    assert drift(kept, data().ring) < 0.5 * drift(plain(), data().ring)
    assert learned(kept) > 0.4 * learned(plain())


def test_a_mask_masks_and_its_prior_keeps_the_rest() -> None:
    left = torch.zeros(BATCH, 1, *data().latents.shape[-2:])
    left[..., : left.shape[-1] // 2] = 1

    def drift_on_the_right(learner: Learner) -> float:
        moved = predicted(learner, data().emblem) - predicted(learner, data().emblem, network=0.0)
        return float(moved[..., left.shape[-1] // 2 :].square().mean())

    masked = taught(lambda batch, chosen: replace(batch, mask=left))
    kept = taught(lambda batch, chosen: replace(batch, mask=left), inverted_mask_prior=True)
    assert drift_on_the_right(kept) < 0.5 * min(drift_on_the_right(masked), drift_on_the_right(plain()))


def test_the_guidance_aware_loss_widens_the_gap_to_the_prediction_without_words() -> None:
    free = data().texts[""]
    guided = taught(
        lambda batch, chosen: replace(batch, words={"unconditional": free.expand(BATCH, -1, -1)}),
        do_guidance_loss=True,
        guidance_loss_target=3,
    )

    def gap(learner: Learner) -> float:
        return float((predicted(learner, data().emblem) - predicted(learner, free)).square().mean().sqrt())

    assert gap(guided) > 1.3 * gap(plain())


def test_a_slider_moves_a_class_along_its_prompts_in_both_directions() -> None:
    texts = data().texts
    words = {"positive": texts["red"], "negative": texts["blue"], "target": texts["shape"]}
    expanded = {name: embeds.expand(BATCH, -1, -1) for name, embeds in words.items()}
    params = {"positive_prompt": "red", "negative_prompt": "blue"}
    slider = taught(
        lambda batch, chosen: replace(batch, words=expanded), objective="concept_slider", objective_params=params
    )
    wanted = predicted(slider, texts["red"], network=0.0) - predicted(slider, texts["blue"], network=0.0)
    neutral = predicted(slider, texts["shape"], network=0.0)
    for sign in (1.0, -1.0):
        moved = predicted(slider, texts["shape"], network=sign) - neutral
        assert float(torch.cosine_similarity(sign * wanted.flatten(), moved.flatten(), dim=0)) > 0.4


def test_noise_levels_that_are_drawn_are_those_that_are_learned() -> None:
    high, low = (
        taught(timestep_type="sigmoid", timestep_params={"mean": mean, "std": 0.4}, content_or_style="balanced")
        for mean in (2.0, -2.0)
    )
    assert error(high, sigma=0.88) < error(low, sigma=0.88)
    assert error(low, sigma=0.12) < error(high, sigma=0.12)


@pytest.mark.parametrize("kind", ["mae", "huber", "smooth_l1", "pseudo_huber"])
def test_a_robust_distance_is_not_led_astray_by_outliers(kind: str) -> None:
    """A number is fitted to a tenth of outliers: with the squared error it ends at their mean."""
    values = torch.randn(200, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.1
    values[:20] += 10
    found = {}
    params = {"huber": {"delta": 0.2}, "smooth_l1": {"delta": 0.2}}.get(kind, {})
    for distance in (Distance(), Distance(kind, params)):
        number = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.Adam([number], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            distance(number.view(1, 1, 1, 1).expand_as(values), values).mean().backward()
            optimizer.step()
        found[distance.kind] = abs(float(number.detach()))
    assert found[kind] < 0.1 < 0.9 < found["mse"]
