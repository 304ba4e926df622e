"""Several captions of an image, and what a dataset's settings make of them."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.config.dataset import DatasetConfig
from toolkit.data import Example, Scan, scan_datasets
from toolkit.data.captions.texts import CaptionTexts
from toolkit.data.captions.variants import Variation
from toolkit.randomness import Draws

MakeImage = Callable[..., Path]
ScanFolder = Callable[..., Scan]


def variation(**fields: Any) -> Variation:
    with_short, trigger = fields.pop("with_short", False), fields.pop("trigger", None)
    dataset = DatasetConfig.model_validate({"folder_path": Path(), **fields})
    return Variation(dataset, trigger, dataset.random_triggers, with_short=with_short)


def of(text: str, **fields: Any) -> tuple[str, ...]:
    return variation(**fields).of(CaptionTexts((text,)), default="")


def test_each_line_is_a_caption_where_the_dataset_says_so(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption="a cat\n\n  a pet\na cat\n")
    (example,) = scan_folder(caption_per_line=True, trigger="tok").examples
    assert (example.caption, example.variants) == ("tok a cat", ("tok a cat", "tok a pet"))
    assert example.texts == ("tok a cat", "tok a pet", "tok")
    (example,) = scan_folder().examples
    assert (example.caption, example.variants) == ("a cat\n\n  a pet\na cat", ())


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ("a cat", ["a cat"]),
        (["a cat", "a pet", " "], ["a cat", "a pet"]),
        ({"caption": "a cat", "caption_short": "cat"}, ["a cat"]),
        ({"text": ["a", "b"]}, ["a", "b"]),
        ({"caption": "a cat", "tags": ["sits", "grass"]}, ["a cat, sits, grass"]),
        ({"tags": "sits, grass"}, ["sits, grass"]),
    ],
)
def test_a_json_file_beside_an_image_is_read_as_json(
    make_image: MakeImage, scan_folder: ScanFolder, content: Any, captions: list[str]
) -> None:
    make_image("a.png").with_suffix(".json").write_text(json.dumps(content))
    scan = scan_folder(caption_ext="json", default_caption=None)
    assert scan.problems == () and list(scan.examples[0].variants or (scan.examples[0].caption,)) == captions


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("3", "must be a text or a list"),
        ('{"label": 1}', "has no key caption"),
        ("[1]", "must"),
    ],
)
def test_a_json_caption_that_holds_no_text_is_a_problem(
    make_image: MakeImage, scan_folder: ScanFolder, content: str, words: str
) -> None:
    path = make_image("a.png").with_suffix(".json")
    path.write_text(content)
    (problem,) = scan_folder(caption_ext="json", default_caption="x").problems
    assert words in problem.what and problem.where == str(path)


def test_keys_of_json_captions_that_are_not_used_are_named(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    for name in ("a", "b"):
        make_image(f"{name}.png").with_suffix(".json").write_text('{"caption": "x", "score": 3, "prompt": "y"}')
    (notice,) = scan_folder(caption_ext="json").notices
    assert "not used: score (2), prompt (2)" in notice


def test_short_captions_replace_or_take_turns_with_the_long_ones(make_image: MakeImage, folder: Path) -> None:
    for name, content in (("a", {"caption": ["long", "longer"], "caption_short": "short"}), ("b", {"caption": "b"})):
        make_image(f"{name}.png").with_suffix(".json").write_text(json.dumps(content))
    config = {"folder_path": folder, "caption_ext": "json", "resolution": 64}
    scan = scan_datasets(
        [DatasetConfig.model_validate({**config, "use_short_captions": True})], divisor_px=16, trigger_word=None
    )
    assert [example.texts[0] for example in scan.examples] == ["short", "b"]
    assert any("without a short caption, trained with the long one: b.png" in notice for notice in scan.notices)
    scan = scan_datasets(
        [DatasetConfig.model_validate(config)], divisor_px=16, trigger_word=None, with_short_captions=True
    )
    assert Counter(scan.examples[0].variants) == {"long": 1, "longer": 1, "short": 2}


def test_short_captions_of_which_there_are_none_are_a_problem(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption="a cat")
    (problem,) = scan_folder(use_short_captions=True).problems
    assert "no image has a short caption" in problem.what
    dataset = DatasetConfig.model_validate({"folder_path": problem.where, "resolution": 64})
    (problem,) = scan_datasets([dataset], divisor_px=16, trigger_word=None, with_short_captions=True).problems
    assert problem.where == "train.short_and_long_captions" and "no image has a short caption" in problem.what


def test_few_orders_of_tags_all_come_equally_often_and_the_first_ones_stay() -> None:
    found = Counter(of("me, a, b , c", shuffle_tokens=True, keep_tokens=1, caption_variants=12))
    assert found == {", ".join(["me", *order]): 2 for order in itertools.permutations("abc")}


def test_many_orders_of_tags_are_drawn_the_same_way_every_time() -> None:
    text = ", ".join("abcdefghij")
    found = of(text, shuffle_tokens=True, caption_variants=50)
    assert len(set(found)) == 50 and all(sorted(one.split(", ")) == sorted(text.split(", ")) for one in found)
    assert found == of(text, shuffle_tokens=True, caption_variants=50)


def test_tags_are_left_out_at_the_stated_rate_except_the_kept_ones() -> None:
    text = ", ".join(["me", *map(str, range(20))])
    found = of(text, token_dropout_rate=0.25, keep_tokens=1, caption_variants=1000)
    assert all(one.startswith("me") for one in found)
    left = sum(len(one.split(", ")) - 1 for one in found) / (20 * 1000)
    assert abs(left - 0.75) < 4 * math.sqrt(0.25 * 0.75 / 20_000)


def test_the_trigger_word_stays_in_front_whatever_is_shuffled_or_left_out() -> None:
    found = of("a, [trigger], b", trigger="tok", shuffle_tokens=True, token_dropout_rate=0.9, caption_variants=64)
    assert all("tok" in one for one in found) and "tok" in found


def test_random_trigger_words_are_added_from_a_list_or_a_file(tmp_path: Path, make_image: MakeImage) -> None:
    found = of("a cat", random_triggers=["x", "y", "z"], random_triggers_max=2, caption_variants=200)
    assert set(found) == {
        f"a cat, {', '.join(order)}" for size in (1, 2) for order in itertools.permutations("xyz", size)
    }
    make_image("a.png", caption="a cat")
    words = tmp_path / "words.txt"
    words.write_text("one\n\ntwo\n")
    dataset = DatasetConfig.model_validate(
        {"folder_path": tmp_path / "images", "resolution": 64, "random_triggers": str(words)}
    )
    (example,) = scan_datasets([dataset], divisor_px=16, trigger_word=None).examples
    assert set(example.variants) == {"a cat, one", "a cat, two"}
    words.write_text("\n")
    for source, what in ((words, "contains no words"), (tmp_path / "none.txt", "cannot be read as a list of words")):
        dataset = dataset.model_copy(update={"random_triggers": (str(source),)})
        (problem,) = scan_datasets([dataset], divisor_px=16, trigger_word=None).problems
        assert problem.where == str(source) and what in problem.what


def test_replacements_are_made_in_captions_before_the_trigger_word() -> None:
    assert of("a photo of sks", replacements=["a photo of |", "sks|[trigger]"], trigger="tok") == ("tok",)


def test_the_number_of_variants_is_said_before_the_start(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption=", ".join("abcdefghijkl"))
    make_image("b.png", caption="a, b")
    (notice,) = scan_folder(shuffle_tokens=True).notices
    assert "up to 479,001,600 ways; 8 of each" in notice and "10 texts for 2 images" in notice
    (notice,) = scan_folder(token_dropout_rate=0.9, keep_tokens=2).notices
    assert "up to 1,024 ways" in notice


def test_settings_that_vary_no_caption_are_said(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption="a cat on grass")
    (notice,) = scan_folder(shuffle_tokens=True).notices
    assert "captions do not vary: none has 2 or more" in notice
    (notice,) = scan_folder(token_dropout_rate=0.5, keep_tokens=1).notices
    assert "none has 2 or more" in notice


@pytest.mark.parametrize("orders", [{"shuffle_tokens": True}, {"token_dropout_rate": 0.5}])
def test_the_number_of_ways_is_that_of_all_different_texts(orders: dict[str, Any]) -> None:
    one = variation(**orders, keep_tokens=1, random_triggers=["x", "y"], random_triggers_max=2, caption_variants=1000)
    found = set(one.of(CaptionTexts(("k, a, b, c",)), default=""))
    assert len(found) == one.num_orders(4)


def test_a_caption_is_drawn_with_its_share_at_each_use(make_example: Callable[..., Example]) -> None:
    example, draws = make_example(Path("a.png"), (64, 64), variants=("a", "a", "a", "b")), Draws(1)
    drawn = [example.caption_by(draws.python("caption", index, 0)) for index in range(2000)]
    assert drawn == [example.caption_by(draws.python("caption", index, 0)) for index in range(2000)]
    assert abs(drawn.count("a") / 2000 - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 2000)
