"""toolkit/objectives/guidance.py, against formulas written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.losses import losses_of
from tests.toolkit.objectives.linear_model import DRAWS, Predict, batch, mean, seen, velocity_objective, words, words_of
from toolkit.objectives.velocity import VelocityObjective

FREE = words(3.0, 3.0)
ON: dict[str, Any] = {"do_guidance_loss": True, "guidance_loss_target": 4}


def _guided(**train: Any) -> tuple[VelocityObjective, Predict, torch.Tensor]:
    objective, predict = velocity_objective(**ON, **train), Predict()
    return objective, predict, losses_of(objective, batch(words={"unconditional": FREE}), predict, DRAWS)["velocity"]


def _by_hand(objective: VelocityObjective, predict: Predict) -> tuple[torch.Tensor, ...]:
    """sigma, prediction, true velocity and u."""
    one = batch()
    noise, sigma, noisy = seen(objective, one)
    spoken = words_of(one.condition.prompt_embeds)
    predicted = noisy + spoken + predict.weight[0] + predict.weight[1] * spoken
    free = noisy + 3 + predict.weight[0] + predict.weight[1] * 3
    return sigma.view(-1, 1, 1, 1), predicted, noise - one.latents, free


def test_the_target_is_guided_by_the_models_own_prediction_without_words() -> None:
    objective, predict, loss = _guided()
    _, predicted, true, free = _by_hand(objective, predict)
    assert torch.allclose(loss, mean((predicted - (free + 4 * (true - free))).square()), rtol=1e-5)
    assert [network for network, _, _ in predict.calls] == [1, 1]
    assert [has_gradient for _, _, has_gradient in predict.calls] == [True, False]


def test_the_schedule_leaves_the_plain_target_where_there_is_no_noise() -> None:
    objective, predict, loss = _guided(guidance_loss_schedule="sigma")
    sigma, predicted, true, free = _by_hand(objective, predict)
    scale = 1 + 3 * sigma
    assert torch.allclose(loss, mean((predicted - (free + scale * (true - free))).square()), rtol=1e-5)


def test_the_mirrored_form_is_the_same_error_divided_by_the_square_of_the_scale() -> None:
    plain, mirrored = _guided()[2], _guided(guidance_loss_form="mirrored")[2]
    assert torch.allclose(plain, 16 * mirrored, rtol=1e-4)


def test_cfg_zero_projects_what_is_predicted_without_words() -> None:
    objective, predict, loss = _guided(do_guidance_loss_cfg_zero=True)
    _, predicted, true, free = _by_hand(objective, predict)
    along = mean(true * free) / mean(free * free)
    free = free * along.view(-1, 1, 1, 1)
    assert torch.allclose(loss, mean((predicted - (free + 4 * (true - free))).square()), rtol=1e-4)


@pytest.mark.parametrize(
    ("train", "embedded"),
    [
        ({}, 2.5),
        ({"do_differential_guidance": True}, 2.5),
        (ON, 4.0),
        ({**ON, "guidance_loss_schedule": "sigma"}, 4.0),
        ({**ON, "guidance_loss_form": "mirrored"}, 4.0),
        ({**ON, "do_prior_divergence": True}, 4.0),
    ],
)
def test_the_guidance_embedding_gets_the_guidance_that_is_learned(train: dict[str, Any], embedded: float) -> None:
    one, predict = batch(words={"unconditional": FREE}), Predict()
    object.__setattr__(one.condition, "guidance", 2.5)  # what `cfg_scale` would give
    losses_of(velocity_objective(**train), one, predict, DRAWS)
    assert all((torch.as_tensor(guidance) == embedded).all() for _, guidance, _ in predict.calls)


def test_of_a_range_each_sample_draws_one_value_again_the_same() -> None:
    objective = velocity_objective(do_guidance_loss=True, guidance_loss_target=[2, 5])
    assert objective.guidance is not None
    drawn = torch.stack([objective.guidance.drawn(batch(index), DRAWS) for index in range(200)])  # [200, 2]
    assert 2 <= drawn.min() < 2.2
    assert 4.8 < drawn.max() <= 5
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert torch.equal(drawn[7], objective.guidance.drawn(batch(7), DRAWS))


@pytest.mark.parametrize("schedule", ["constant", "sigma"])
def test_each_sample_is_embedded_and_compared_with_its_own_guidance(schedule: str) -> None:
    objective, predict = (
        velocity_objective(**ON | {"guidance_loss_target": [2, 5]}, guidance_loss_schedule=schedule),
        Predict(),
    )
    one = batch(words={"unconditional": FREE})
    loss = losses_of(objective, one, predict, DRAWS)["velocity"]
    assert objective.guidance is not None
    scale = objective.guidance.drawn(one, DRAWS)
    assert all(torch.equal(torch.as_tensor(guidance), scale) for _, guidance, _ in predict.calls)
    sigma, predicted, true, free = _by_hand(objective, predict)
    s = scale.view(-1, 1, 1, 1) if schedule == "constant" else 1 + (scale.view(-1, 1, 1, 1) - 1) * sigma
    assert torch.allclose(loss, mean((predicted - (free + s * (true - free))).square()), rtol=1e-5)


def test_differential_guidance_multiplies_the_gradient_and_squares_the_loss() -> None:
    found = {}
    for scale in (1, 3):
        predict = Predict()
        objective = velocity_objective(do_differential_guidance=True, differential_guidance_scale=scale)
        loss = losses_of(objective, batch(), predict, DRAWS)["velocity"]
        found[scale] = loss, torch.autograd.grad(loss.sum(), predict.weight)[0]
    assert torch.allclose(found[3][0], 9 * found[1][0], rtol=1e-4)
    assert torch.allclose(found[3][1], 3 * found[1][1], rtol=1e-4)


def test_a_prior_sample_stays_with_the_base_whatever_the_guidance() -> None:
    one, predict = batch(words={"unconditional": FREE}, is_prior=torch.tensor([True, True])), Predict()
    loss = losses_of(velocity_objective(**ON, guidance_loss_form="mirrored"), one, predict, DRAWS)["velocity"]
    learned = predict.weight[0] + predict.weight[1] * torch.tensor([0.5, -1.0])
    assert torch.allclose(loss, learned.square())
