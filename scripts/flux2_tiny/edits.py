"""The edit that the edit demo teaches: a shape of any colour becomes the same shape in red."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.flux2_tiny.dataset import is_held_out
from scripts.flux2_tiny.judge import classify, has_background
from scripts.flux2_tiny.world import COLORS, Scene, random_scene, render

EDIT_PROMPT = "make it red"
EDIT_COLOR = "red"
NUM_PAIRS = 144
NUM_UNSEEN = 3
MIN_OVERLAP = 0.6
"""Intersection over union of the red pixels of image and target."""


def edit_scenes(num_scenes: int, *, seed: int, held_out: bool) -> list[Scene]:
    """Scenes without red, for editing; held-out scenes are in none of the demo's pairs."""
    draw = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < num_scenes:
        scene = random_scene(draw)
        if EDIT_COLOR not in (scene.color, scene.background) and is_held_out(scene) is held_out:
            scenes.append(scene)
    return scenes


def render_edit(scene: Scene, *, seed: int) -> tuple[Image.Image, Image.Image]:
    """The image before and after the edit, identical except for the shape's colour."""
    before, after = (render(one, random.Random(seed)) for one in (scene, replace(scene, color=EDIT_COLOR)))
    return before, after


def write_edit_dataset(folder: Path, *, seed: int = 0) -> None:
    """Write the pairs (`control/edit_01.png`, `target/edit_01.png` and `.txt`), and `unseen/` for the job's samples."""
    for index, scene in enumerate(edit_scenes(NUM_PAIRS, seed=seed, held_out=False), start=1):
        before, after = render_edit(scene, seed=seed + index)
        name = f"edit_{index:02d}"
        _save(before, folder / "control" / f"{name}.png")
        _save(after, folder / "target" / f"{name}.png")
        (folder / "target" / f"{name}.txt").write_text(EDIT_PROMPT + "\n", encoding="utf-8")
    for index, scene in enumerate(edit_scenes(NUM_UNSEEN, seed=seed, held_out=True), start=1):
        _save(render_edit(scene, seed=seed + index)[0], folder / "unseen" / f"{index}.png")


def shows_edit(picture: NDArray[np.uint8], target: NDArray[np.uint8], *, background: str) -> bool:
    """Whether an image has the target's red shape in the target's place, on the right background.

    Args:
        picture: the image that the model drew, [H, W, 3], 0..255.
        target: the correct result of the edit, of the same size.
        background: name of the target's background colour.
    """
    colors = classify(picture)
    red = list(COLORS).index(EDIT_COLOR)
    drawn, wanted = colors == red, classify(target) == red
    overlap = (drawn & wanted).sum() / max(1, (drawn | wanted).sum())
    return has_background(colors, background) and bool(overlap >= MIN_OVERLAP)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
