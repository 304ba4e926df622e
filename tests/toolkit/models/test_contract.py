"""toolkit.models.contract"""

from __future__ import annotations

import pytest

from toolkit.models.base_model import BaseModel
from toolkit.stable_diffusion_model import StableDiffusion


def test_everything_that_a_class_forgot_is_listed_when_it_is_defined_with_its_purpose() -> None:
    with pytest.raises(TypeError) as refused:

        class Unfinished(BaseModel):
            def encode_images(self, pixels: object) -> object:  # type: ignore[override]
                return pixels

    text = str(refused.value)
    assert "Unfinished is not a complete model: 14 things that every model must define are missing" in text
    assert "    arch: the model's name in job files" in text
    assert "    load(component): Load one component onto the model's device, frozen and in eval mode" in text
    assert "    locate_layer(name): Find a layer by any of its names" in text
    assert "    write_lora(updates, file_format): The tensors of a LoRA file." in text
    assert "encode_images" not in text
    in_order = ("load(", "fingerprint(", "generate_single_image(")  # the base class's order
    assert [text.index(name) for name in in_order] == sorted(text.index(name) for name in in_order)


def test_a_class_may_leave_answers_to_its_subclasses_if_it_says_so() -> None:
    class Half(BaseModel, is_abstract=True):
        arch = "half"

    with pytest.raises(TypeError, match="is not a complete model"):

        class Whole(Half):
            pass


def test_the_host_of_older_models_is_one_of_those() -> None:
    with pytest.raises(TypeError, match=r"16 things that every model must define are missing"):

        class Hosted(StableDiffusion):
            pass
