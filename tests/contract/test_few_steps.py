"""Few steps: where a model's own pipeline steps, and that it can be told where a step ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from tests.contract.conftest import SIZE_PX, Models
from toolkit.adapters.adapter_set import TARGET_SIGMA, AdapterSet
from toolkit.adapters.choices import ADAPTERS
from toolkit.config import AdapterConfig, SampleItem
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.randomness import Draws

TIMESTEP, END = torch.tensor([300.0, 800.0]), torch.tensor([0.1, 0.2])


@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_model_says_at_which_noise_levels_its_pipeline_steps(whole: BaseModel, num_steps: int) -> None:
    pipeline = whole.get_generation_pipeline()
    if not isinstance(pipeline, DiffusionPipeline):
        pytest.skip(f"{whole.arch} draws without a scheduler")
    item = SampleItem("a", "", SIZE_PX, SIZE_PX, 0, 1.0, num_steps, 1.0)
    embeds = {text: whole.get_prompt_embeds([text])[0] for text in item.prompts(whole.card)}
    whole.generate_single_image(pipeline, item, SampleCondition(embeds), torch.Generator().manual_seed(0))
    expected = whole.get_sampling_sigmas(num_steps, whole.num_tokens(SIZE_PX, SIZE_PX))
    assert torch.allclose(pipeline.scheduler.sigmas.cpu(), expected)


@torch.no_grad()
def test_a_mean_flow_adapter_changes_nothing_until_it_is_trained(
    make_model: Models, latents: Tensor, embeds: Tensor
) -> None:
    model = make_model("transformer")
    if model.get_ends() is None:
        pytest.skip(f"{model.arch} does not name its time embedding")
    base = model.get_noise_prediction(latents, TIMESTEP, Condition(embeds))
    adapter: Any = ADAPTERS["mean_flow"].load()(AdapterConfig.model_validate({"type": "mean_flow"}), None)
    adapter.attach(model, Draws(0))
    condition = Condition(embeds, extras={TARGET_SIGMA: END})
    with AdapterSet((adapter,)).reading(condition, num_noisy=4):
        assert torch.equal(model.get_noise_prediction(latents, TIMESTEP, condition), base)
        last = adapter.embedder.linear_2.weight
        last.copy_(torch.randn(last.shape, generator=torch.Generator().manual_seed(0)))
        assert not torch.allclose(model.get_noise_prediction(latents, TIMESTEP, condition), base, atol=1e-4)
    assert torch.equal(model.get_noise_prediction(latents, TIMESTEP, condition), base)
