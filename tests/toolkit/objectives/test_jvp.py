"""The derivative of the real network along the path, and a job that trains with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tests.losses import losses_of
from tests.tiny import losses, run_job, tiny_model, write_job
from toolkit.adapters.adapter_set import TARGET_SIGMA
from toolkit.adapters.mean_flow import MeanFlowAdapter
from toolkit.config import AdapterConfig, TrainConfig
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.randomness import Draws
from toolkit.train.adapted import AdaptedWeights, NamedAdapter
from toolkit.train.prediction import Prediction

GAP = 3e-5


def test_the_target_follows_from_the_derivative_of_the_network_with_recomputed_blocks() -> None:
    """Against a central difference in fp64, of times in fp32: exact to about 0.5 %."""
    model = tiny_model("transformer")
    adapter = MeanFlowAdapter(AdapterConfig.model_validate({"type": "mean_flow"}), None)
    adapter.attach(model, Draws(0))
    with torch.no_grad():
        adapter.embedder.linear_2.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(2))
    model.enable_gradient_checkpointing()
    model.transformer.train()
    weights = AdaptedWeights(None, [NamedAdapter(adapter, "mean_flow.0", "")])
    predict = Prediction(model, weights, Draws(0), index=0, num_tokens=6)
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 64, 3, 2, generator=draw)
    batch = Batch(0, latents, Condition(torch.randn(2, 48, 192, generator=draw)), torch.ones(2), num_tokens=6)
    train = TrainConfig.model_validate({"objective": "jvp", "objective_params": {"velocity": "data"}})
    seen = []

    def looking(noisy_latents, sigma, condition, *, network=1.0):  # type: ignore[no-untyped-def]
        seen.append((noisy_latents, sigma, condition))
        return predict(noisy_latents, sigma, condition, network=network)

    looking.target, looking.sampling_sigmas = predict.target, predict.sampling_sigmas  # type: ignore[attr-defined]
    objective = OBJECTIVES["jvp"].load().from_config(train)
    (term,) = losses_of(objective, batch, looking, Draws(0)).values()  # type: ignore[arg-type]
    start, sigma, condition = seen[1]
    velocity = (start - latents) / sigma.view(-1, 1, 1, 1)  # noise - latents
    gap = (sigma - condition.extras[TARGET_SIGMA]).view(-1, 1, 1, 1)
    term.sum().backward()
    gradient = adapter.embedder.linear_2.weight.grad
    assert gradient is not None and gradient.abs().max() > 0
    model.transformer.double()
    condition = replace(condition, prompt_embeds=condition.prompt_embeds.double())
    with torch.no_grad():
        sides = [
            predict(start.double() + step * velocity.double(), (sigma + step).double(), condition).double()
            for step in (GAP, -GAP)
        ]
        here = predict(start.double(), sigma.double(), condition).double()
    target = velocity.double() - gap.double() * (sides[0] - sides[1]) / (2 * GAP)
    error = (here - target).square().mean(dim=(1, 2, 3))
    found = 1e-3 * term.double() / (1 - term.double())
    assert torch.allclose(found, error, rtol=2e-2)


def test_a_job_trains_with_it(tmp_path: Path) -> None:
    train = {"steps": 3, "objective": "jvp", "gradient_checkpointing": True}
    path = write_job(tmp_path, network=None, adapter={"type": "mean_flow"}, train=train)
    assert run_job(path).status == "done"
    found = losses(tmp_path / "output" / "job")
    assert len(found) == 3
    assert all(0 < loss <= 1 for loss in found.values())
