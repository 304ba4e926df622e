from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.config import SampleConfig, SampleItem
from toolkit.config.sample_prompt import read_flags


def test_an_item_inherits_what_it_does_not_say() -> None:
    sample = SampleConfig(samples=[{"prompt": "a cat", "width": 512, "neg": ""}], neg="blurry", seed=7, sample_steps=3)
    assert sample.items() == (SampleItem("a cat", "", 512, 1024, 7, 4.0, 3, 1.0),)


def test_flags_behind_a_prompt_are_settings() -> None:
    prompt = "a dog -- on --w 512 --h 768 --n ugly, bad --seed 3 --cfg 2.5 --steps 9 --m 0.5"
    (item,) = SampleConfig(prompts=[prompt]).items()
    assert item == SampleItem("a dog -- on", "ugly, bad", 512, 768, 3, 2.5, 9, 0.5)


def test_short_flags_mean_the_same() -> None:
    assert read_flags("x --d 1 --l 2 --s 3 --neg y") == read_flags("x --seed 1 --cfg 2 --steps 3 --n y")


def test_a_flag_stands_before_a_key() -> None:
    assert SampleConfig(samples=[{"prompt": "a --w 256", "width": 512}]).items()[0].width == 256


@pytest.mark.parametrize("flag", ["--widht 5", "--ctrl_idx 1", "--w", "--ctrl_img"])
def test_a_flag_that_cannot_be_followed_is_an_error(flag: str) -> None:
    with pytest.raises(ValidationError, match="in a prompt"):
        SampleConfig(prompts=[f"a cat {flag}"])


def test_reference_images_stand_in_the_order_of_their_numbers() -> None:
    sample = SampleConfig(samples=["a --ctrl_img_3 c.png --ctrl_img b b.png", {"prompt": "b", "ctrl_img_2": "d.png"}])
    assert [item.references for item in sample.items()] == [(Path("b b.png"), Path("c.png")), (Path("d.png"),)]


def test_the_first_reference_image_has_two_names(process: Tree, check: Check, tmp_path: Path) -> None:
    picture = tmp_path / "before.png"
    picture.touch()
    process["sample"] = {"samples": [{"prompt": "a", "ctrl_img_1": str(picture)}, f"b --ctrl_img_1 {picture}"]}
    assert [item.references for item in check().training().sample.items()] == [(picture,)] * 2


def test_a_reference_image_that_is_not_there_is_named(process: Tree, problems: Problems) -> None:
    process["sample"] = {"samples": [{"prompt": "a", "ctrl_img": "/nowhere/before.png"}]}
    assert "/nowhere/before.png" in problems()["sample.samples[0].ctrl_img"]


def test_an_explicit_seed_holds_for_the_prompts_after_it() -> None:
    sample = SampleConfig(prompts=["a", "b --seed 9", "c"], seed=1)
    assert [item.seed for item in sample.items()] == [1, 9, 9]


def test_walking_adds_the_number_of_the_prompt_to_the_seed() -> None:
    sample = SampleConfig(prompts=["a", "b --seed 90", "c"], seed=1, walk_seed=True)
    assert [item.seed for item in sample.items()] == [1, 90, 3]


def test_the_trigger_word_stands_for_its_placeholder() -> None:
    sample = SampleConfig(prompts=["a [trigger] --n no [trigger]"])
    assert sample.items("zork")[0].prompt == "a zork"
    assert sample.items("zork")[0].neg == "no zork"
    assert sample.items()[0].prompt == "a [trigger]"


def test_ai_toolkits_neg_false_is_an_empty_prompt() -> None:
    assert SampleConfig(neg=False).neg == ""


def test_samples_stand_before_prompts(process: Tree, check: Check) -> None:
    process["sample"] = {"samples": [{"prompt": "new"}], "prompts": ["old"]}
    checked = check()
    assert [item.prompt for item in checked.training().sample.items()] == ["new"]
    (notice,) = checked.notices
    assert notice == "config.process[0].sample.prompts: has no effect here: it is used only without `samples`"
