"""The velocity that a model predicts, and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.contract.conftest import Models
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition

TIMESTEP = torch.tensor([300.0, 800.0])


@torch.no_grad()
def _predict(model: BaseModel, latents: Tensor, embeds: Tensor, timestep: Tensor = TIMESTEP) -> Tensor:
    return model.get_noise_prediction(latents, timestep, Condition(embeds))


def test_the_velocity_has_the_shape_of_the_latents(whole: BaseModel, latents: Tensor, embeds: Tensor) -> None:
    velocity = _predict(whole, latents, embeds)
    assert velocity.shape == latents.shape
    assert velocity.isfinite().all()


def test_the_velocity_depends_on_latents_time_and_prompt(whole: BaseModel, latents: Tensor, embeds: Tensor) -> None:
    velocity = _predict(whole, latents, embeds)
    assert not torch.equal(velocity, _predict(whole, latents.flip(0), embeds))
    assert not torch.equal(velocity, _predict(whole, latents, embeds, TIMESTEP.flip(0)))
    assert not torch.equal(velocity, _predict(whole, latents, embeds.flip(0)))


def test_samples_of_a_batch_do_not_see_each_other(whole: BaseModel, latents: Tensor, embeds: Tensor) -> None:
    alone = [_predict(whole, latents[i : i + 1], embeds[i : i + 1], TIMESTEP[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(_predict(whole, latents, embeds), torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_pictures_need_not_be_square(whole: BaseModel, latents: Tensor, embeds: Tensor) -> None:
    wide = torch.cat([latents, latents], dim=3)
    assert _predict(whole, wide, embeds).shape == wide.shape


def test_reference_images_change_the_velocity(whole: BaseModel, latents: Tensor, embeds: Tensor) -> None:
    if "references" not in whole.card.capabilities:
        pytest.skip(f"{whole.arch} takes no reference images")
    with torch.no_grad():
        edited = whole.get_noise_prediction(latents, TIMESTEP, Condition(embeds, references=[latents.flip(0)]))
    assert edited.shape == latents.shape
    assert not torch.equal(edited, _predict(whole, latents, embeds))


def test_each_sample_may_have_a_guidance_of_its_own(whole: BaseModel, latents: Tensor, embeds: Tensor) -> None:
    def predict(guidance: float | Tensor) -> Tensor:
        return whole.get_noise_prediction(latents, TIMESTEP, Condition(embeds, guidance))

    with torch.no_grad():
        two, four, own = predict(2.0), predict(4.0), predict(torch.tensor([2.0, 4.0]))
    assert torch.equal(own, torch.stack([two[0], four[1]]))


def test_the_target_of_the_loss_is_the_way_from_picture_to_noise(whole: BaseModel, latents: Tensor) -> None:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    target = whole.get_loss_target(latents, noise)
    torch.testing.assert_close(latents + target, noise)


def test_gradient_checkpointing_changes_no_gradient(make_model: Models, latents: Tensor, embeds: Tensor) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        model = make_model("transformer")
        if is_checkpointed:
            model.enable_gradient_checkpointing()
        model.transformer.train().requires_grad_(True)
        model.get_noise_prediction(latents, TIMESTEP, Condition(embeds)).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.transformer.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)
