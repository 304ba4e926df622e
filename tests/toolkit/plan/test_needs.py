"""toolkit.plan.needs, and the parts that answer with it"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import write_dataset
from toolkit.cards import ModelCard, find_cards
from toolkit.config import DatasetConfig, SampleItem
from toolkit.data import scan_datasets
from toolkit.encode.vision import VisionEncoder
from toolkit.objectives.choices import Passes
from toolkit.plan.needs import Needs, Picture, Resident, View
from toolkit.plan.stage_list import TRAIN, describe_stages, encode_stages, without_a_stage


def test_a_union_keeps_order_and_a_text_of_both_goes_where_one_wants_it_kept() -> None:
    decoder = Resident("vae", "it decodes samples")
    one = Needs(texts={"a": None, "b": None}, captions=frozenset("ab"), passes=Passes(1), resident=(decoder,))
    other = Needs(texts={"b": Path("cache"), "c": None}, passes=Passes(0, 1), resident=(decoder,))
    both = one | other
    assert list(both.texts.items()) == [("a", None), ("b", Path("cache")), ("c", None)]
    assert both.caption_folders == {"a": None, "b": Path("cache")}
    assert both.passes == Passes(1, 1)
    assert both.resident == (decoder,)
    assert both.keeps("vae") and not both.keeps("text_encoder")


def test_the_printed_stages_are_the_list_that_is_run() -> None:
    needs = Needs(trained=(((32, 32),),))
    line = describe_stages(needs)
    assert all(f"{stage.name} ({stage.label})" in line for stage in (*encode_stages(needs), TRAIN))


def test_only_runs_with_views_have_a_stage_for_them(tmp_path: Path) -> None:
    dataset = DatasetConfig.model_validate(
        {"folder_path": write_dataset(tmp_path, count=1, size_px=64), "clip_image_from_same_folder": True}
    )
    (example,) = scan_datasets([dataset], divisor_px=16, trigger_word=None).examples
    known = Needs(texts={"a": None}, pictures=(Picture(example, None),), trained=(((64, 64),),))
    assert example.view is not None
    seeing = known | Needs(views=(View(example.view, VisionEncoder("siglip", "auto", "image_embeds"), None),))
    assert without_a_stage(known) == without_a_stage(seeing) == []
    assert "encode views" not in describe_stages(known)
    assert "encode images (VAE), encode views (vision encoder), train" in describe_stages(seeing)


@pytest.mark.parametrize("card", find_cards().values(), ids=lambda card: card.arch)
def test_a_negative_prompt_is_encoded_where_the_card_and_the_guidance_want_one(
    card: ModelCard,
) -> None:
    items = {scale: SampleItem("a", "b", 64, 64, 1, scale, 2, 1.0) for scale in (1.0, 4.0)}
    assert items[1.0].prompts(card) == ("a",)
    assert items[4.0].prompts(card) == (("a", "b") if "true_cfg" in card.capabilities else ("a",))
