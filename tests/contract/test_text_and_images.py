"""Prompts and pictures become tensors of the promised shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.contract.conftest import SIZE_PX
from toolkit.models.base_model import BaseModel


def test_prompts_become_embeddings_of_one_length(whole: BaseModel, embeds: Tensor) -> None:
    assert embeds.ndim == 3
    assert embeds.isfinite().all()
    assert whole.get_prompt_embeds(["something else"]).shape == (1, *embeds.shape[1:])


def test_prompts_that_differ_have_embeddings_that_differ(embeds: Tensor) -> None:
    assert not torch.equal(embeds[0], embeds[1])


def test_an_empty_prompt_can_be_encoded(whole: BaseModel, embeds: Tensor) -> None:
    empty = whole.get_prompt_embeds([""])
    assert empty.shape == (1, *embeds.shape[1:])
    assert empty.isfinite().all()


def test_prompts_encoded_together_are_as_each_alone(whole: BaseModel, embeds: Tensor) -> None:
    together = whole.get_prompt_embeds(["a red circle", "a blue square"])
    torch.testing.assert_close(together, embeds, rtol=1e-4, atol=1e-4)


def test_a_short_prompt_is_not_cut(whole: BaseModel) -> None:
    assert whole.cut_prompt("a red circle") is None


def test_pictures_become_latents_in_proportion(whole: BaseModel, latents: Tensor) -> None:
    wide = whole.encode_images(torch.zeros(1, 3, SIZE_PX, 2 * SIZE_PX))
    assert latents.shape[0] == 2
    assert wide.shape == (1, latents.shape[1], latents.shape[2], 2 * latents.shape[3])
    assert latents.isfinite().all()


def test_encoding_a_picture_twice_gives_the_same_latents(whole: BaseModel) -> None:
    pixels = torch.linspace(-1, 1, 3 * SIZE_PX**2).reshape(1, 3, SIZE_PX, SIZE_PX)
    assert torch.equal(whole.encode_images(pixels), whole.encode_images(pixels))


def test_latents_become_pictures_of_the_size_they_came_from(whole: BaseModel, latents: Tensor) -> None:
    pixels = whole.decode_latents(latents)
    assert pixels.shape == (2, 3, SIZE_PX, SIZE_PX)
    assert pixels.isfinite().all()


def test_sides_are_multiples_of_the_models_divisor(whole: BaseModel) -> None:
    divisor = whole.get_bucket_divisibility()
    assert whole.num_tokens(3 * divisor, 2 * divisor) == 6
