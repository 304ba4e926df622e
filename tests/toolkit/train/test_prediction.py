"""The model as an objective sees it: what a teacher's pass gives, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from tests.losses import losses_of
from tests.small_run import TEXT_WIDTH, small_model
from toolkit.config import NetworkConfig, TrainConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.noise.levels import NoiseLevels
from toolkit.objectives.objective import Objective, Predict
from toolkit.objectives.velocity import VelocityObjective
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.learner import build_learner
from toolkit.train.prediction import NUM_TIMESTEPS, Prediction
from toolkit.train.step import Stepper, StepResult
from toolkit.train.trainable import NetworkWeights, TransformerWeights

DRAWS = Draws(3)
NOISY = DRAWS.normal((2, 64, 2, 2), "noisy")
SIGMA = torch.tensor([0.3, 0.8])
CONDITION = Condition(DRAWS.normal((2, 3, TEXT_WIDTH), "embeds"))


class WithTeacher(VelocityObjective):
    """The velocity, and how far the network has moved away from the model without it."""

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        teacher = predict(batch.latents, SIGMA, batch.condition, network=0.0)
        yield from super().losses(batch, predict, draws)
        student = predict(batch.latents, SIGMA, batch.condition)
        yield {"preservation": (student - teacher).square().mean(dim=(1, 2, 3))}


class TeacherUnused(VelocityObjective):
    """The velocity, after a teacher's pass that nothing comes of."""

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        with torch.no_grad():
            predict(batch.latents, SIGMA, batch.condition, network=0.5)
        yield from super().losses(batch, predict, draws)


def _network_weights(model: BaseModel, *, dropout: float = 0.5, alpha: float = 2) -> NetworkWeights:
    network = Network(model, NetworkConfig(linear=2, linear_alpha=alpha, dropout=dropout), DRAWS)
    network.apply()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    model.transformer.train()
    return NetworkWeights(network)


def _steps(objective: Objective, *, count: int = 2) -> tuple[list[StepResult], list[Tensor]]:
    model, ranks = small_model(), OneProcess()
    weights = _network_weights(model)
    model.enable_gradient_checkpointing()
    learner = build_learner(model, weights, TrainConfig(lr=0.01, dtype="fp32"), draws=DRAWS, ranks=ranks)
    stepper = Stepper(learner, objective, DRAWS, ranks)
    results = []
    for step in range(count):
        latents = DRAWS.normal((2, 64, 2, 2), "latents", step)
        results.append(stepper.train_step(step, [Batch(step, latents, CONDITION, torch.ones(2), num_tokens=4)]))
    return results, [parameter.detach().clone() for _, parameter in weights.named_parameters()]


def test_at_strength_0_the_prediction_is_that_of_the_model_without_the_network_bit_for_bit() -> None:
    with torch.no_grad():
        expected = small_model().get_noise_prediction(NOISY, NUM_TIMESTEPS * SIGMA, CONDITION)
    model = small_model()
    predict = Prediction(model, _network_weights(model), DRAWS, index=0, num_tokens=4)
    teacher = predict(NOISY, SIGMA, CONDITION, network=0.0)
    assert torch.equal(teacher, expected)
    assert not teacher.requires_grad
    assert not torch.equal(predict(NOISY, SIGMA, CONDITION), expected)
    assert model.transformer.training


def test_a_step_sums_its_losses_by_noise_and_they_make_up_its_loss() -> None:
    (first, second) = _steps(OBJECTIVES["velocity"].load().from_config(TrainConfig()))[0]
    for result in (first, second):
        assert result.groups.sums is not None
        losses, counts = result.groups.sums
        assert counts.sum() == 2
        assert torch.allclose(losses.sum() / 2, result.loss)
    assert not torch.equal(first.groups.sums, second.groups.sums)  # type: ignore[arg-type]


def test_a_teachers_pass_has_no_dropout_and_disturbs_no_draw() -> None:
    model = small_model()
    weights = _network_weights(model)
    alone = Prediction(model, weights, DRAWS, index=4, num_tokens=4)
    beside = Prediction(model, weights, DRAWS, index=4, num_tokens=4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch.no_grad():
        teachers = [beside(NOISY, SIGMA, CONDITION, network=0.5) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*teachers)
    for _ in range(2):
        assert torch.equal(beside(NOISY, SIGMA, CONDITION), alone(NOISY, SIGMA, CONDITION))
        beside(NOISY, SIGMA, CONDITION, network=0.0)


def test_passes_of_one_batch_draw_dropout_of_their_own() -> None:
    model = small_model()
    predict = Prediction(model, _network_weights(model), DRAWS, index=4, num_tokens=4)
    first, second = predict(NOISY, SIGMA, CONDITION), predict(NOISY, SIGMA, CONDITION)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("recomputes", [False, True])
def test_at_another_strength_a_pass_has_the_gradient_of_that_strength(recomputes: bool) -> None:
    def gradients(network: float, *, alpha: float) -> list[Tensor]:
        model = small_model()
        weights = _network_weights(model, dropout=0.5, alpha=alpha)
        if recomputes:
            model.enable_gradient_checkpointing()
        predict = Prediction(model, weights, DRAWS, index=0, num_tokens=4)
        other = predict(NOISY, SIGMA, CONDITION)  # in the same backward pass, at strength 1
        (predict(NOISY, SIGMA, CONDITION, network=network).square().mean() + 0 * other.mean()).backward()
        return [parameter.grad for _, parameter in weights.named_parameters() if parameter.grad is not None]

    half, as_expected = gradients(0.5, alpha=2), gradients(1.0, alpha=1)
    assert all(gradient.any() for gradient in half)
    assert all(torch.allclose(one, other) for one, other in zip(half, as_expected, strict=True))
    assert not all(torch.allclose(one, other) for one, other in zip(half, gradients(1.0, alpha=2), strict=True))


def test_a_batch_of_another_strength_is_predicted_with_the_network_at_it_and_a_teacher_without_it() -> None:
    model = small_model()
    weights = _network_weights(model)
    with torch.no_grad():
        plain, half, off = (
            Prediction(model, weights, DRAWS, index=0, num_tokens=4, strength=strength)(
                NOISY, SIGMA, CONDITION, network=network
            )
            for strength, network in ((1.0, 0.5), (0.5, 1.0), (0.5, 0.0))
        )
        assert torch.equal(plain, half)
        assert torch.equal(off, small_model().get_noise_prediction(NOISY, NUM_TIMESTEPS * SIGMA, CONDITION))


def test_a_teacher_changes_nothing_of_the_training_beside_it() -> None:
    alone, weights = _steps(VelocityObjective(NoiseLevels("sigmoid")))
    beside, others = _steps(TeacherUnused(NoiseLevels("sigmoid")))
    assert [one.loss.item() for one in alone] == [one.loss.item() for one in beside]
    assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))


def test_each_term_is_there_by_name_and_the_loss_is_their_sum() -> None:
    (first, _), weights = _steps(WithTeacher(NoiseLevels("sigmoid")))
    assert list(first.terms) == ["velocity", "preservation"]
    assert first.terms["preservation"] > 0
    assert torch.equal(first.loss, first.terms["velocity"] + first.terms["preservation"])
    (plain, _), others = _steps(VelocityObjective(NoiseLevels("sigmoid")))
    assert torch.equal(first.terms["velocity"], plain.terms["velocity"])
    assert not all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))


def test_all_weights_of_a_transformer_have_no_strength() -> None:
    model = small_model()
    predict = Prediction(model, TransformerWeights(model, save_format="safetensors"), DRAWS, index=0, num_tokens=4)
    with pytest.raises(UserError, match="no network whose strength"):
        predict(NOISY, SIGMA, CONDITION, network=0.0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_gives_a_loss_for_each_sample_and_makes_the_passes_it_says(name: str) -> None:
    model = small_model()
    predict = Prediction(model, _network_weights(model), DRAWS, index=0, num_tokens=4)
    passes: list[bool] = []
    model.transformer.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    params = {"concept_slider": {"positive_prompt": "large"}}.get(name, {})
    train = TrainConfig.model_validate({"dtype": "fp32", "objective": name, "objective_params": params})
    objective = OBJECTIVES[name].load().from_config(train)
    words = dict.fromkeys(("positive", "negative", "target"), CONDITION.prompt_embeds)
    batch = Batch(0, NOISY, CONDITION, torch.ones(2), num_tokens=4, words=words, counterpart=-NOISY)
    terms = losses_of(objective, batch, predict, DRAWS)
    assert terms
    assert all(term.shape == (2,) and term.isfinite().all() for term in terms.values())
    needs = OBJECTIVES[name].passes_with(train.objective_params, has_true_cfg=False)
    forward = passes.count(False) + OBJECTIVES[name].has_derivative  # value and derivative go through in one call
    assert (passes.count(True), forward) == (needs.with_gradient, needs.without_gradient)


@pytest.mark.parametrize("name", [name for name, choice in OBJECTIVES.items() if not choice.needs_network])
def test_an_objective_that_asks_for_no_network_works_in_a_full_fine_tune(name: str) -> None:
    model = small_model()
    predict = Prediction(model, TransformerWeights(model, save_format="safetensors"), DRAWS, index=0, num_tokens=4)
    objective = OBJECTIVES[name].load().from_config(TrainConfig(dtype="fp32"))
    assert losses_of(objective, Batch(0, NOISY, CONDITION, torch.ones(2), num_tokens=4), predict, DRAWS)
