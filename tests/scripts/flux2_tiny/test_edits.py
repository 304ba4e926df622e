"""The edit demo's pictures are pairs, and its judge knows an edit from a copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scripts.flux2_tiny.dataset import is_held_out
from scripts.flux2_tiny.edits import (
    EDIT_PROMPT,
    NUM_PAIRS,
    NUM_UNSEEN,
    edit_scenes,
    render_edit,
    shows_edit,
    write_edit_dataset,
)

SHIPPED = Path(__file__).resolve().parents[3] / "assets" / "demo_edit_dataset"


def test_the_shipped_edits_are_what_the_script_writes(tmp_path: Path) -> None:
    write_edit_dataset(tmp_path)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 3 * NUM_PAIRS + NUM_UNSEEN
    for file in files:
        one, other = tmp_path / file, SHIPPED / file
        if file.suffix == ".txt":
            assert other.read_text(encoding="utf-8") == one.read_text(encoding="utf-8") == f"{EDIT_PROMPT}\n"
        else:
            assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def test_held_out_edits_are_in_no_pair() -> None:
    trained, held_out = edit_scenes(NUM_PAIRS, seed=0, held_out=False), edit_scenes(40, seed=5000, held_out=True)
    assert not set(trained) & set(held_out)
    assert all(is_held_out(scene) for scene in held_out)
    assert all("red" not in (scene.color, scene.background) for scene in (*trained, *held_out))


def test_a_picture_is_edited_when_its_shape_is_red_where_it_was() -> None:
    scenes = edit_scenes(30, seed=1, held_out=True)
    pairs = [tuple(map(np.asarray, render_edit(scene, seed=index))) for index, scene in enumerate(scenes)]
    for scene, (before, after) in zip(scenes, pairs, strict=True):
        assert shows_edit(after, after, background=scene.background)
        assert not shows_edit(before, after, background=scene.background)
    others = [
        shows_edit(pairs[index - 1][1], pairs[index][1], background=scene.background)
        for index, scene in enumerate(scenes)
    ]
    assert sum(others) <= 1, "another picture's edit is not this one's"


def test_a_pair_differs_in_the_shape_only() -> None:
    (scene,) = edit_scenes(1, seed=2, held_out=False)
    before, after = (np.asarray(image, dtype=int) for image in render_edit(scene, seed=3))
    changed = np.abs(before - after).sum(axis=-1) > 0
    assert 0.02 < changed.mean() < 0.3
