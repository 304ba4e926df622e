"""toolkit.config.drawing.together"""

from __future__ import annotations

from pathlib import Path

from toolkit.cards import find_cards
from toolkit.config import SampleConfig
from toolkit.config.drawing.together import in_groups

CARD = find_cards()["flux2_tiny"]


def test_what_differs_in_prompt_and_seed_only_is_drawn_together() -> None:
    prompts = ["a", "b --seed 9", "c --w 512", "d --n no", "e --steps 3", "f --w 512", "g --m 0.5", "h --cfg 1"]
    groups = in_groups(SampleConfig(prompts=prompts).items(), CARD, most=8)
    assert groups == [[0, 1, 3], [2, 5], [4], [6], [7]]


def test_a_group_is_never_larger_than_allowed() -> None:
    items = SampleConfig(prompts=["a", "b", "c --w 512", "d", "e"]).items()
    assert in_groups(items, CARD, most=2) == [[0, 1], [2], [3, 4]]
    assert in_groups(items, CARD, most=1) == [[0], [1], [2], [3], [4]]
    assert in_groups([], CARD, most=3) == []


def test_a_picture_with_reference_images_is_drawn_alone(tmp_path: Path) -> None:
    items = SampleConfig(prompts=["a", f"b --ctrl_img {tmp_path}/x.png", f"c --ctrl_img {tmp_path}/x.png", "d"]).items()
    assert in_groups(items, CARD, most=4) == [[0, 3], [1], [2]]
