"""The whole model goes to a file and comes back; pictures are drawn from seeds."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tests.contract.conftest import SIZE_PX, Models
from tests.drawing import psnr
from toolkit.config import SampleConfig, SampleItem
from toolkit.config.drawing.together import in_groups
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.weights.tensor_files import write_tensors


def _item(*, seed: int = 1, width: int = SIZE_PX) -> SampleItem:
    section = {"prompts": ["a red circle"], "width": width, "height": SIZE_PX, "sample_steps": 2, "seed": seed}
    (item,) = SampleConfig.model_validate({**section, "walk_seed": False}).items()
    return item


def _draw(model: BaseModel, item: SampleItem, embeds: Tensor) -> Image.Image:
    named = dict.fromkeys(item.prompts(model.card), embeds[1]) | {item.prompt: embeds[0]}
    generator = torch.Generator().manual_seed(item.seed)
    with torch.no_grad():
        return model.generate_single_image(model.get_generation_pipeline(), item, SampleCondition(named), generator)


def test_saved_weights_are_read_back_as_a_model_that_predicts_the_same(
    make_model: Models, latents: Tensor, embeds: Tensor, tmp_path: Path
) -> None:
    model, timestep = make_model("transformer"), torch.tensor([300.0, 800.0])
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.mul_(1.01)
        before = model.get_noise_prediction(latents, timestep, Condition(embeds))
        path = tmp_path / "model.safetensors"
        write_tensors(path, {name: tensor.contiguous() for name, tensor in model.model_state_to_save().items()})
        again = make_model("transformer", name_or_path=str(path))
        assert torch.equal(again.get_noise_prediction(latents, timestep, Condition(embeds)), before)


def test_a_sample_has_the_size_that_was_asked_for(whole: BaseModel, embeds: Tensor) -> None:
    image = _draw(whole, _item(width=2 * SIZE_PX), embeds)
    assert (image.mode, image.size) == ("RGB", (2 * SIZE_PX, SIZE_PX))


def test_a_seed_draws_one_picture_and_another_seed_another(whole: BaseModel, embeds: Tensor) -> None:
    first, again, other = (_draw(whole, _item(seed=seed), embeds).tobytes() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_drawing_disturbs_no_global_generator(whole: BaseModel, embeds: Tensor) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    _draw(whole, _item(), embeds)
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_drawn_in_one_batch_are_those_drawn_alone(whole: BaseModel, embeds: Tensor) -> None:
    section = {"prompts": ["a red circle --seed 3", "a green square --seed 8"], "neg": "x", "sample_steps": 2}
    items = SampleConfig.model_validate({**section, "width": SIZE_PX, "height": SIZE_PX}).items()
    ((first, second),) = in_groups(items, whole.card, most=2)
    texts = dict.fromkeys(text for item in items for text in item.prompts(whole.card))
    named = SampleCondition({text: embeds[index % 2] * (1 + index) for index, text in enumerate(texts)})
    pipeline = whole.get_generation_pipeline()
    with torch.no_grad():
        alone = [whole.generate_single_image(pipeline, item, named, _noise(item)) for item in items]
        together = whole.generate_images(pipeline, items, named, [_noise(item) for item in items])
    assert [psnr(*pair) >= 40 for pair in zip(alone, together, strict=True)] == [True, True]
    assert psnr(together[first], together[second]) < 40


def _noise(item: SampleItem) -> torch.Generator:
    return torch.Generator().manual_seed(item.seed)
