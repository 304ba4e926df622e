"""toolkit/objectives/sliders, against formulas written out by hand."""

from __future__ import annotations

from typing import Any

import torch

from tests.losses import losses_of
from tests.toolkit.objectives.linear_model import DRAWS, Predict, batch, mean, objective_of, words
from toolkit.objectives.path import mix
from toolkit.objectives.sliders.concept_slider import ConceptSliderObjective, normalised_like
from toolkit.objectives.sliders.image_slider import ImageSliderObjective

WORDS = {"target": words(1.0, 1.0), "positive": words(2.0, 2.0), "negative": words(-1.0, -1.0)}
ANCHOR = {"anchor": words(5.0, 5.0)}


def _slider(**params: Any) -> ConceptSliderObjective:
    given = {"positive_prompt": "old", "negative_prompt": "young", "guidance_strength": 2, **params}
    objective = objective_of(objective="concept_slider", objective_params=given)
    assert isinstance(objective, ConceptSliderObjective)
    return objective


def test_both_strengths_and_the_anchor_are_trained_in_one_step() -> None:
    objective, predict = _slider(anchor_class="dog", anchor_strength=0.5), Predict()
    one = batch(words={**WORDS, **ANCHOR})
    losses = losses_of(objective, one, predict, DRAWS)
    sigma = objective.levels.draw(one, DRAWS)
    noisy = mix(one.latents, DRAWS.normal(tuple(one.latents.shape), "noise", one.index), sigma)
    neutral, apart = noisy + 1, 2 * (2 - -1.0)
    learned = predict.weight[0] + predict.weight[1] * 1
    for name, sign in (("raised", 1), ("lowered", -1)):
        target = normalised_like(neutral + sign * apart, neutral)
        assert torch.allclose(losses[name], mean((neutral + sign * learned - target).square()) / 3, rtol=1e-4)
    moved = predict.weight[0] + predict.weight[1] * 5
    assert torch.allclose(losses["anchor"], (0.5 * 2 * moved.square() / 6).expand(2), rtol=1e-4)
    assert sorted(network for network, _, _ in predict.calls) == [-1, -1, 0, 0, 0, 0, 1, 1]


def test_without_an_anchor_nothing_is_anchored() -> None:
    predict = Predict()
    assert set(losses_of(_slider(), batch(words=WORDS), predict, DRAWS)) == {"raised", "lowered"}
    assert sorted(network for network, _, _ in predict.calls) == [-1, 0, 0, 0, 1]


def test_targets_have_the_mean_and_spread_of_the_neutral_prediction() -> None:
    values, other = torch.randn(3, 2, 4, 4), 2 + 3 * torch.randn(3, 2, 4, 4)
    found = normalised_like(values, other)
    assert torch.allclose(mean(found), mean(other), atol=1e-5)
    assert torch.allclose(found.flatten(1).std(dim=1), other.flatten(1).std(dim=1), rtol=1e-5)


def test_a_slider_of_images_learns_each_at_its_own_strength_with_the_same_noise() -> None:
    objective, predict = objective_of(objective="image_slider"), Predict()
    assert isinstance(objective, ImageSliderObjective)
    one = batch()
    other = one.latents + 1
    object.__setattr__(one, "counterpart", other)
    losses = losses_of(objective, one, predict, DRAWS)
    noise = DRAWS.normal(tuple(one.latents.shape), "noise", one.index)
    sigma = objective.levels.draw(one, DRAWS)
    spoken = torch.tensor([0.5, -1.0]).view(-1, 1, 1, 1)
    learned = predict.weight[0] + predict.weight[1] * spoken
    for name, sign, latents in (("raised", 1, one.latents), ("lowered", -1, other)):
        predicted = mix(latents, noise, sigma) + spoken + sign * learned
        assert torch.allclose(losses[name], mean((predicted - (noise - latents)).square()) / 2, rtol=1e-4)
