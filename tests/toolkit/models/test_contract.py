"""toolkit.models.contract"""

from __future__ import annotations

import pytest

from toolkit.models.base_model import BaseModel
from toolkit.stable_diffusion_model import StableDiffusion


def test_all_that_a_class_forgot_is_said_when_it_is_made_with_what_each_is_for() -> None:
    with pytest.raises(TypeError) as refused:

        class Unfinished(BaseModel):
            def encode_images(self, pixels: object) -> object:  # type: ignore[override]
                return pixels

    text = str(refused.value)
    assert "Unfinished is not a whole model: it lacks 14 of the answers" in text
    assert "    arch: the name that job files say" in text
    assert "    load(component): Load one component to the model's device, in eval mode and frozen" in text
    assert "    locate_layer(name): Where a layer belongs by any of its names" in text
    assert "    write_lora(updates, file_format): The tensors of a LoRA file." in text
    assert "encode_images" not in text
    assert text.index("load(") < text.index("fingerprint(") < text.index("generate_single_image(")


def test_a_class_may_leave_answers_to_its_subclasses_if_it_says_so() -> None:
    class Half(BaseModel, is_abstract=True):
        arch = "half"

    with pytest.raises(TypeError, match="is not a whole model"):

        class Whole(Half):
            pass


def test_the_host_of_older_models_is_one_of_those() -> None:
    with pytest.raises(TypeError, match=r"lacks 15 of the answers"):

        class Hosted(StableDiffusion):
            pass
