"""toolkit/objectives/preservation.py, against formulas written out by hand."""

from __future__ import annotations

import torch

from tests.losses import losses_of
from tests.toolkit.objectives.linear_model import DRAWS, Predict, batch, mean, seen, velocity_objective, words, words_of
from toolkit.objectives.batch import PreservedWords


def test_preservation_compares_the_prediction_for_other_words_with_that_of_the_base() -> None:
    other = words(2.0, 4.0)
    one = batch(preserved=PreservedWords(other, torch.tensor([1.0, 0.5])))
    objective, predict = (
        velocity_objective(diff_output_preservation=True, diff_output_preservation_multiplier=3),
        Predict(),
    )
    losses = losses_of(objective, one, predict, DRAWS)
    moved = predict.weight[0] + predict.weight[1] * torch.tensor([2.0, 4.0])  # what the network adds for these words
    assert torch.allclose(losses["preservation"], 3 * torch.tensor([1.0, 0.5]) * moved.square())
    assert [network for network, _, _ in predict.calls] == [1, 0, 1]
    assert [has_gradient for _, _, has_gradient in predict.calls] == [True, False, True]
    plain = losses_of(velocity_objective(), batch(), Predict(), DRAWS)["velocity"]
    assert torch.equal(losses["velocity"], plain)


def test_a_batch_without_words_to_preserve_makes_no_further_pass() -> None:
    predict = Predict()
    assert set(losses_of(velocity_objective(blank_prompt_preservation=True), batch(), predict, DRAWS)) == {"velocity"}
    assert len(predict.calls) == 1


def test_a_prior_sample_is_trained_towards_the_base_models_prediction() -> None:
    one = batch(is_prior=torch.tensor([False, True]))
    objective, predict = velocity_objective(), Predict()
    losses = losses_of(objective, one, predict, DRAWS)["velocity"]
    noise, _, noisy = seen(objective, one)
    learned = predict.weight[0] + predict.weight[1] * words_of(one.condition.prompt_embeds)
    predicted = noisy + words_of(one.condition.prompt_embeds) + learned
    assert torch.allclose(losses[0], mean((predicted - (noise - one.latents)).square())[0])
    assert torch.allclose(losses[1], learned[1].square().squeeze())


def test_outside_of_the_mask_the_base_is_the_target() -> None:
    mask = torch.zeros(2, 1, 4, 6)
    mask[:, :, :2] = 1
    predict = Predict()
    objective = velocity_objective(inverted_mask_prior=True, inverted_mask_prior_multiplier=0.25)
    losses = losses_of(objective, batch(mask=mask), predict, DRAWS)
    learned = predict.weight[0] + predict.weight[1] * torch.tensor([0.5, -1.0])
    assert torch.allclose(losses["outside_prior"], 0.25 * learned.square())


def test_one_base_prediction_serves_all_that_read_it() -> None:
    train = {"inverted_mask_prior": True, "do_prior_divergence": True}
    predict, one = Predict(), batch(mask=torch.ones(2, 1, 4, 6) / 2, is_prior=torch.tensor([True, True]))
    losses = losses_of(velocity_objective(**train), one, predict, DRAWS)
    assert [network for network, _, _ in predict.calls] == [1, 0]
    learned = predict.weight[0] + predict.weight[1] * torch.tensor([0.5, -1.0])
    assert torch.allclose(losses["prior_divergence"], -learned.square())
