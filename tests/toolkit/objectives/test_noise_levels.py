"""toolkit/objectives/noise: levels.py and next_sample.py"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.losses import losses_of
from tests.toolkit.objectives.linear_model import DRAWS, Predict, batch, mean, velocity_objective, words_of
from toolkit.config import TrainConfig
from toolkit.objectives.noise.levels import NoiseLevels
from toolkit.objectives.noise.timesteps import level_before
from toolkit.objectives.path import mix


def test_strata_of_one_step_are_each_drawn_once_over_batches_and_ranks() -> None:
    levels = NoiseLevels("linear", is_stratified=True)
    for step in range(20):
        parts = [replace(batch(step * 3 + part), batches_per_step=3) for part in range(3)]
        drawn = torch.cat([levels.uniform(part, DRAWS) for part in parts])
        assert sorted((drawn * 6).long().tolist()) == list(range(6))


def test_stratified_draws_have_the_same_distribution() -> None:
    levels = NoiseLevels("linear", is_stratified=True)
    drawn = torch.stack([levels.uniform(replace(batch(index), batches_per_step=2), DRAWS) for index in range(2000)])
    for place in range(2):
        assert float(drawn[:, place].mean()) == pytest.approx(0.5, abs=0.02)
        assert float(drawn[:, place].std()) == pytest.approx(12**-0.5, abs=0.02)


def test_a_job_chooses_the_weight_of_each_level() -> None:
    sigma = torch.tensor([0.2, 0.9])
    plain = NoiseLevels.from_config(TrainConfig.model_validate({"timestep_type": "weighted"}))
    other = NoiseLevels.from_config(TrainConfig.model_validate({"timestep_type": "weighted", "loss_weighting": "even"}))
    assert plain.weight(sigma)[0] < 1 < plain.weight(sigma)[1]
    assert other.weight(sigma).tolist() == [1, 1]


def test_next_sample_trains_where_the_models_own_step_leads() -> None:
    objective, predict, one = (
        velocity_objective(timestep_type="next_sample", next_sample_timesteps=5),
        Predict(),
        batch(),
    )
    losses = losses_of(objective, one, predict, DRAWS)
    assert [has_gradient for _, _, has_gradient in predict.calls] == [False, True]
    noise, sigma = objective.draw(one, DRAWS)
    start = level_before(sigma, one.num_tokens, num_steps=5)
    spoken = words_of(one.condition.prompt_embeds)
    learned = predict.weight[0] + predict.weight[1] * spoken
    before = mix(one.latents, noise, start)
    reached = before + (sigma - start).view(-1, 1, 1, 1) * (before + spoken + learned)
    true = (reached - one.latents) / sigma.view(-1, 1, 1, 1)  # noise - latents of the noise that leads there
    assert torch.allclose(losses["velocity"], mean((reached + spoken + learned - true).square()), rtol=1e-4)
