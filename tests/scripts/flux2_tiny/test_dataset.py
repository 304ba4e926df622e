"""What is held out stays out, and the files are pairs."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.flux2_tiny.dataset import (
    DEMO_PAIRS,
    held_out_emblems,
    held_out_scenes,
    is_held_out,
    write_demo_dataset,
    write_world_dataset,
)
from scripts.flux2_tiny.judge import shows_emblem
from scripts.flux2_tiny.world import random_scene

SHIPPED_DEMO = Path(__file__).resolve().parents[3] / "assets" / "demo_dataset"


def test_about_one_scene_in_twenty_is_held_out() -> None:
    draw = random.Random(0)
    share = np.mean([is_held_out(random_scene(draw)) for _ in range(5000)])
    assert 0.035 < share < 0.065
    assert all(is_held_out(scene) for scene in held_out_scenes(20, seed=3))


def test_the_world_is_pairs_of_pictures_and_captions_that_repeat(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_world_dataset(tmp_path / name, num_pictures=12, seed=7)
    pictures = sorted((tmp_path / "one").glob("*.png"))
    assert len(pictures) == 12
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (128, 128)
        assert picture.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert picture.read_bytes() == (tmp_path / "two" / picture.name).read_bytes()


def test_no_held_out_scene_is_in_the_world(tmp_path: Path) -> None:
    write_world_dataset(tmp_path, num_pictures=200, seed=7)
    captions = {file.read_text(encoding="utf-8").strip() for file in tmp_path.glob("*.txt")}
    assert not captions & {scene.caption() for scene in held_out_scenes(300, seed=1)}


def test_the_proofs_emblems_are_at_pairs_that_the_demo_does_not_show() -> None:
    scenes = held_out_emblems(84, seed=0)
    pairs = [(scene.place, scene.background) for scene in scenes]
    assert not set(pairs) & set(DEMO_PAIRS)
    assert len(set(pairs)) == 42  # all that are left of 9 places and 6 backgrounds
    new_places = {place for place, _ in pairs} - {place for place, _ in DEMO_PAIRS}
    assert len(new_places) == 3


def test_the_shipped_demo_is_twelve_emblems_where_their_captions_say(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path)
    captions = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.txt")}
    assert len(captions) == 12
    assert captions == {file.name: file.read_text(encoding="utf-8") for file in SHIPPED_DEMO.glob("*.txt")}
    for (place, background), name in zip(DEMO_PAIRS, sorted(captions), strict=True):
        image = np.asarray(Image.open((SHIPPED_DEMO / name).with_suffix(".png")))
        assert shows_emblem(image, place=place, background=background)
