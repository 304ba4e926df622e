"""All objectives for few steps learn the known mean velocity of a Gaussian; steps lie where samplers step."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from tests.losses import losses_of
from toolkit.adapters.adapter_set import TARGET_SIGMA
from toolkit.config import TrainConfig
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.few_steps.alpha_flow import AlphaFlowObjective
from toolkit.objectives.few_steps.spans import END_SHARE, SMALLEST_GAP, any_spans, scheduled_spans
from toolkit.objectives.noise.timesteps import shifted
from toolkit.objectives.objective import Objective
from toolkit.randomness import Draws

MEAN, SPREAD = 1.0, 0.4
COUNT = 128
SHIFT = 3.0
DRAWS = Draws(0)


def mean_at(sigma: Tensor) -> Tensor:
    return (1 - sigma) * MEAN


def spread_at(sigma: Tensor) -> Tensor:
    return (((1 - sigma) * SPREAD) ** 2 + sigma**2).sqrt()


def flow(z: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Where the flow from data to noise has been at `end` if it is at z at `start`."""
    return mean_at(end) + spread_at(end) / spread_at(start) * (z - mean_at(start))


def velocity(z: Tensor, sigma: Tensor) -> Tensor:
    """The slope of `flow`: mean' + spread' / spread (z - mean)."""
    slope = (sigma - (1 - sigma) * SPREAD**2) / spread_at(sigma) ** 2
    return -MEAN + slope * (z - mean_at(sigma))


class Student(nn.Module):
    """u = a(t, r) z + b(t, r), as the true one is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2))

    def forward(self, z: Tensor, start: Tensor, end: Tensor) -> Tensor:
        factor, offset = self.net(torch.stack([start, end], dim=-1)).unbind(-1)
        return factor * z + offset


@dataclass
class Predict:
    """The student, and the exact velocity as its base model."""

    student: Student = field(default_factory=Student)

    def __call__(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition, *, network: float = 1.0) -> Tensor:
        z = noisy_latents.flatten()
        if network == 0:
            return velocity(z, sigma).detach().view_as(noisy_latents)
        return self.student(z, sigma, condition.extras[TARGET_SIGMA]).view_as(noisy_latents)

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        return noise - latents

    def sampling_sigmas(self, num_steps: int) -> Tensor:
        return shifted(torch.linspace(1, 0, num_steps + 1), SHIFT)


def batch(index: int = 0, *, progress: float = 0.0, count: int = COUNT) -> Batch:
    latents = MEAN + SPREAD * torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(index))
    condition = Condition(torch.zeros(count, 1, 1))
    return Batch(index, latents, condition, torch.ones(count), num_tokens=1, progress=progress)


def objective_of(name: str, **params: object) -> Objective:
    train = TrainConfig.model_validate({"objective": name, "objective_params": params})
    objective: Objective = OBJECTIVES[name].load().from_config(train)
    return objective


def trained(objective: Objective, *, num_steps: int = 600) -> Student:
    predict = Predict()
    optimizer = torch.optim.Adam(predict.student.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for index in range(num_steps):
        terms = losses_of(objective, batch(index, progress=index / num_steps), predict, DRAWS)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum(dim=0).mean().backward()
        optimizer.step()
        schedule.step()
    return predict.student


def points(count: int = 2000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places z on the path, and three noise levels t > s > r."""
    draw = torch.Generator().manual_seed(9)
    levels = torch.rand(3, count, generator=draw).sort(dim=0, descending=True).values
    start, middle, end = levels[0].clamp(min=0.1), levels[1], levels[2]
    end = torch.minimum(end, start - SMALLEST_GAP)
    middle = torch.minimum(torch.maximum(middle, end), start)
    return mean_at(start) + spread_at(start) * torch.randn(count, generator=draw), start, middle, end


@pytest.mark.parametrize(
    ("name", "params", "limit"),
    [
        ("mean_flow", {"teacher_steps": 16}, 0.08),
        ("alpha_flow", {"alpha_end": 0.02}, 0.14),
        ("alpha_flow", {"alpha_end": 0.02, "velocity": "data"}, 0.14),
        ("jvp", {}, 0.14),
        ("jvp", {"velocity": "data"}, 0.14),
    ],
)
def test_the_known_mean_velocity_of_a_gaussian_is_learned(name: str, params: dict[str, object], limit: float) -> None:
    """Two to five seconds each: 600 steps. Errors are 0.05 to 0.07, and 0.10 to 0.11."""
    student = trained(objective_of(name, **params))
    z, start, middle, end = points()
    with torch.no_grad():
        learned = student(z, start, end)
        true = (z - flow(z, start, end)) / (start - end)
        # The whole step is the sum of its parts.
        first = student(z, start, middle) * (start - middle)
        rest = student(z - first, middle, end) * (middle - end)
        gap = start - end
    assert _relative(learned - true, true) < limit
    assert _relative(learned * gap - first - rest, true * gap) < 0.06


def _relative(error: Tensor, true: Tensor) -> float:
    return float((error.square().mean() / true.square().mean()).sqrt())


def test_a_step_of_no_length_has_the_velocity_as_its_target() -> None:
    z, start = points()[:2]
    end = start - 1e-3
    assert torch.allclose((z - flow(z, start, end)) / 1e-3, velocity(z, start), atol=2e-2)


def test_steps_are_drawn_where_the_sampler_steps_and_never_too_short() -> None:
    spans = any_spans(batch(count=4000), Predict(), DRAWS)
    assert (spans.start - spans.end).min() >= SMALLEST_GAP - 1e-6
    assert spans.end.min() >= 0
    assert spans.start.max() == 1
    assert (spans.start == 1).float().mean() == pytest.approx(END_SHARE, abs=0.02)
    assert (spans.end == 0).float().mean() == pytest.approx(END_SHARE, abs=0.02)
    assert spans.shift == pytest.approx(SHIFT)
    again = any_spans(batch(count=4000), Predict(), DRAWS)
    assert torch.equal(again.start, spans.start)
    assert torch.equal(again.end, spans.end)


def test_a_fixed_schedule_draws_its_own_steps_equally_often() -> None:
    spans = scheduled_spans(batch(count=4000), Predict(), DRAWS, num_steps=4)
    sigmas = Predict().sampling_sigmas(4)
    for start, end in pairwise(sigmas):
        is_this = spans.start == start
        assert is_this.float().mean() == pytest.approx(0.25, abs=0.03)
        assert (spans.end[is_this] == end).all()


def test_the_teacher_steps_through_a_step_as_a_sampler_would() -> None:
    spans = scheduled_spans(batch(), Predict(), DRAWS, num_steps=1)
    cuts = spans.between(4)
    assert torch.allclose(torch.stack([cut[0] for cut in cuts]), Predict().sampling_sigmas(4), atol=1e-6)


def test_a_guided_teacher_moves_away_from_what_is_avoided() -> None:
    class Two(Predict):
        def __call__(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition, *, network: float = 1) -> Tensor:
            assert network == 0
            return condition.prompt_embeds.mean(dim=(1, 2)).view(-1, 1, 1, 1).expand_as(noisy_latents)

    one = batch(count=2)
    guided = Batch(0, one.latents, one.condition, one.loss_weight, 1, avoided=torch.ones(2, 1, 1))
    teacher = objective_of("mean_flow", guidance_scale=3.0).teacher  # type: ignore[attr-defined]
    assert teacher.velocity(one, Two(), one.latents, torch.ones(2)).unique().tolist() == [0]
    assert teacher.velocity(guided, Two(), one.latents, torch.ones(2)).unique().tolist() == [-2]


def test_alpha_goes_from_the_first_to_the_last_value() -> None:
    objective = AlphaFlowObjective(None, (1.0, 0.25))
    assert [objective.alpha(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0.25])


def test_the_cost_of_a_step_follows_from_the_settings() -> None:
    def passes(name: str, *, has_true_cfg: bool = True, **params: object) -> int:
        train = TrainConfig.model_validate({"objective": name, "objective_params": params})
        found = OBJECTIVES[name].passes_with(train.objective_params, has_true_cfg=has_true_cfg)
        assert found.with_gradient == 1
        return found.without_gradient

    assert passes("velocity") == 0
    assert passes("mean_flow") == 8
    assert passes("mean_flow", teacher_steps=2) == 4
    assert passes("mean_flow", has_true_cfg=False) == 4
    assert passes("mean_flow", guidance_scale=1) == 4
    assert passes("alpha_flow") == 3
    assert passes("alpha_flow", has_true_cfg=False) == 2
    assert passes("alpha_flow", velocity="data") == 1
    assert passes("jvp") == 4
    assert passes("jvp", velocity="data") == 2
