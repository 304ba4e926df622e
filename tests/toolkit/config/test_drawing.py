"""toolkit.config.drawing"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import TINY
from toolkit.cards import find_cards
from toolkit.config.drawing.generate import GenerateConfig, GenerateProcessConfig
from toolkit.config.drawing.prompts_file import read_prompts
from toolkit.config.reading.installed import find_known


def config(**generate: Any) -> GenerateConfig:
    return GenerateConfig.model_validate({"prompts": ["a", "b --seed 9", "c"], **generate})


def test_prompts_inherit_what_they_do_not_give() -> None:
    items = config(width=512, sample_steps=3).items()
    assert [(item.prompt, item.seed, item.width, item.sample_steps) for item in items] == [
        ("a", 42, 512, 3),
        ("b", 9, 512, 3),
        ("c", 9, 512, 3),
    ]


def test_each_repeat_has_another_seed_unless_seeds_are_random() -> None:
    assert [item.seed for item in config(num_repeats=2).items()] == [42, 9, 9, 43, 10, 10]
    repeats = GenerateConfig.model_validate({"prompts": ["a"], "seed": -1, "num_repeats": 3}).items()
    assert [item.seed for item in repeats] == [-1, -1, -1]


def test_what_is_random_in_the_list_follows_from_the_seed() -> None:
    sizes = {"size_list": [[512, 768], [768, 512]], "num_repeats": 8}
    first, again = config(**sizes, shuffle=True).items(), config(**sizes, shuffle=True).items()
    assert first == again
    assert {(item.width, item.height) for item in first} == {(512, 768), (768, 512)}
    joined = config(random_prompts=True, max_random_per_prompt=2, max_images=20).items()
    assert len(joined) == 20 and any(", " in item.prompt for item in joined)


def test_the_trigger_word_is_filled_in() -> None:
    section = GenerateConfig.model_validate({"prompts": ["[trigger] in a tram"]})
    assert section.items("zork")[0].prompt == "zork in a tram"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# mine\n\na dog --w 64 --seed 3\n  a cat\n"),
        ("a.yaml", "- {prompt: a dog, width: 64, seed: 3}\n- a cat\n"),
        ("a.json", '[{"prompt": "a dog", "width": 64, "seed": 3}, "a cat"]'),
    ],
)
def test_a_file_of_prompts_is_text_or_a_list(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    section = GenerateConfig.model_validate({"prompts": read_prompts(tmp_path / name)})
    dog, cat = section.items()
    assert (dog.prompt, dog.width, dog.seed) == ("a dog", 64, 3)
    assert (cat.prompt, cat.width) == ("a cat", 1024)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a\nb --w big", "a.txt, line 2: width: "),
        ("a.txt", "a --widht 3", "a.txt, line 1: --widht in a prompt is unknown"),
        ("a.txt", "\n# nothing\n", "has no prompts"),
        ("a.yaml", "- {prompt: a, wide: 3}", "a.yaml, entry 1: wide: "),
        ("a.yaml", "- [a, b]", "a.yaml, entry 1: needs a prompt"),
        ("a.yaml", "prompt: a", "is not a list"),
        ("a.json", "[", "a.json"),
    ],
)
def test_a_mistake_in_a_file_of_prompts_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.|prompts|list") as raised:
        read_prompts(tmp_path / name)
    assert message in str(raised.value)


def test_the_card_fills_in_how_its_model_is_sampled() -> None:
    entry: dict[str, Any] = {
        "type": "to_folder",
        "model": {"name_or_path": "black-forest-labs/FLUX.2-klein-4B", "arch": "flux2_klein_4b"},
        "generate": {"prompts": ["a"]},
    }

    assert not GenerateProcessConfig.prepare(entry, find_cards()).problems
    assert entry["generate"]["sample_steps"] == 4 and entry["generate"]["guidance_scale"] == 1.0
    entry["model"] = {"name_or_path": str(TINY), "arch": "flux2_tiny"}
    assert GenerateProcessConfig.model_validate(entry).output_folder("job") == Path("output/job")


def test_texts_stay_as_the_encoder_gives_them_since_a_lora_may_change_the_layer_after_it() -> None:
    model = {"arch": "flux2_tiny", "name_or_path": str(TINY)}
    process = {"type": "to_folder", "folder": "x", "model": model, "generate": {"prompts": ["a"]}}
    drawing = GenerateProcessConfig.model_validate(process, context=find_known())
    assert not drawing.as_training(drawing.generate.items(), "job").embeds_text
