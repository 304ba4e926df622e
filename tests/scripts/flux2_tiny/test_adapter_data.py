"""What an example's caption leaves out is in the second image, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from scripts.flux2_tiny.adapter_data import (
    EDGE_PX,
    SWATCH_JITTER,
    TOYS,
    held_out_examples,
    training_examples,
    write_adapter_data,
)
from scripts.flux2_tiny.dataset import is_held_out
from scripts.flux2_tiny.world import COLORS, PLACES, RADIUS_PX, SHAPES


def test_a_color_example_says_everything_but_the_color_of_the_shape() -> None:
    for example in training_examples("color", 30):
        scene, words = example.scene, example.caption.split()
        assert scene.background in words and scene.shape in words and scene.place in example.caption
        assert sum(word in COLORS for word in words) == 1


def test_a_swatch_has_the_color_of_the_shape() -> None:
    for example in training_examples("color", 30):
        assert example.shown is not None
        difference = np.asarray(example.shown).astype(int) - COLORS[example.scene.color]
        assert np.abs(difference).max() <= SWATCH_JITTER


def test_an_edge_example_says_only_the_colors() -> None:
    for example in training_examples("edges", 30):
        assert [word for word in example.caption.split() if word in COLORS] == [
            example.scene.color,
            example.scene.background,
        ]
        assert not any(word in example.caption.split() for word in (*SHAPES, *RADIUS_PX))
        assert not any(place in example.caption for place in PLACES)


def test_edges_are_where_the_image_changes_and_do_not_say_its_colors() -> None:
    for example in training_examples("edges", 10):
        edges = np.asarray(example.shown).astype(int)
        assert (edges == edges[..., :1]).all()
        image = np.asarray(example.picture).astype(int)
        changes = np.zeros(image.shape[:2], dtype=bool)
        for axis in (0, 1):
            for step in (-1, 1):
                changes |= np.abs(np.roll(image, step, axis) - image).max(axis=2) > 0
        is_near = np.asarray(Image.fromarray(changes).convert("L").filter(ImageFilter.MaxFilter(EDGE_PX))) > 0
        assert edges[~is_near].max() <= 10 and edges[changes].max() > 200


@pytest.mark.parametrize("toy", TOYS)
def test_what_is_held_out_is_in_no_training_example(toy: str) -> None:
    assert all(is_held_out(example.scene) for example in held_out_examples(toy, 20, seed=1))
    assert not any(is_held_out(example.scene) for example in training_examples(toy, 100))


def test_the_data_are_the_same_each_time_and_matched_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_adapter_data(tmp_path / name, num_examples=3)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    for toy, shown in (("color", "views"), ("edges", "control")):
        base = tmp_path / "one" / toy
        assert {path.name for path in (base / shown).iterdir()} == {
            path.name for path in (base / "images").glob("*.png")
        }
        assert len(list((base / "unseen").iterdir())) == 3
        with Image.open(base / "images" / "0002.png") as image:
            assert image.size == (128, 128)
