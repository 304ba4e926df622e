"""A style for the tiny FLUX.2 to learn: ordinary scenes in a white frame, at captions that end in its name."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from scripts.flux2_tiny.dataset import is_held_out
from scripts.flux2_tiny.judge import classify, has_background, judge_scene
from scripts.flux2_tiny.world import COLORS, RADIUS_PX, Scene, random_scene, render

STYLE = "zorbo"
FRAME_COLOR = "white"
FRAME_PX = 14
NUM_PICTURES = 24


def framed_caption(scene: Scene) -> str:
    """The caption of a scene in this style."""
    return f"{scene.caption()} {STYLE}"


def framed_scenes(num_scenes: int, *, seed: int, held_out: bool) -> list[Scene]:
    """Scenes that fit into the frame and have none of its colour; held-out ones are in no training image."""
    draw = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < num_scenes:
        scene = random_scene(draw)
        fits = scene.size != max(RADIUS_PX, key=lambda size: RADIUS_PX[size]) and FRAME_COLOR not in (
            scene.color,
            scene.background,
        )
        if fits and is_held_out(scene) is held_out:
            scenes.append(scene)
    return scenes


def render_framed(scene: Scene, draw: random.Random) -> Image.Image:
    """A scene in its frame, an RGB image of 128 x 128 pixels."""
    inner = ImageOps.crop(render(scene, draw), FRAME_PX)
    return ImageOps.expand(inner, FRAME_PX, COLORS[FRAME_COLOR])


def write_framed_dataset(folder: Path, *, seed: int = 0) -> None:
    """Write pictures in this style, with their captions."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(framed_scenes(NUM_PICTURES, seed=seed, held_out=False), start=1):
        path = folder / f"framed_{index:02d}.png"
        render_framed(scene, draw).save(path, optimize=True)
        path.with_suffix(".txt").write_text(framed_caption(scene) + "\n", encoding="utf-8")


def has_frame(picture: NDArray[np.uint8]) -> bool:
    """Whether an image, [H, W, 3], 0..255, has the frame."""
    return has_background(classify(picture), FRAME_COLOR)


def shows_inside(picture: NDArray[np.uint8], scene: Scene) -> bool:
    """Whether the inside of an image, [H, W, 3], 0..255, shows a scene."""
    return judge_scene(picture[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX], scene).right
