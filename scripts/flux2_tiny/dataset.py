"""Write the world as image and caption files: the tiny model's training set, and the demo's twelve emblems."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from scripts.flux2_tiny.world import (
    COLORS,
    EMBLEM_BOTTOM,
    EMBLEM_TOP,
    PLACES,
    Scene,
    emblem_scene,
    random_scene,
    render,
)

HELD_OUT_SHARE = 20
"""One in this many scenes is never trained on."""

DEMO_PAIRS: tuple[tuple[str, str], ...] = (
    ("at the top left", "red"),
    ("at the top left", "purple"),
    ("at the top", "green"),
    ("at the top", "yellow"),
    ("on the left", "blue"),
    ("on the left", "orange"),
    ("in the center", "red"),
    ("in the center", "blue"),
    ("on the right", "yellow"),
    ("on the right", "purple"),
    ("at the bottom right", "green"),
    ("at the bottom right", "orange"),
)
"""Place and background of the demo's images. Three places, and most pairs, are held out for the proof."""

NUM_REGULARIZATION = 48


def is_held_out(scene: Scene) -> bool:
    """Whether this scene is never in the world's training set; does not depend on any seed."""
    words = "|".join((scene.shape, scene.color, scene.size, scene.place, scene.background))
    return hashlib.sha256(words.encode()).digest()[0] % HELD_OUT_SHARE == 0


def held_out_scenes(num_scenes: int, *, seed: int) -> list[Scene]:
    """Random scenes of the world that are in no training image."""
    draw = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < num_scenes:
        scene = random_scene(draw)
        if is_held_out(scene):
            scenes.append(scene)
    return scenes


def held_out_emblems(num_scenes: int, *, seed: int) -> list[Scene]:
    """Emblem scenes with pairs of place and background that are not in the demo, each pair equally often."""
    backgrounds = [color for color in COLORS if color not in (EMBLEM_TOP, EMBLEM_BOTTOM)]
    pairs = [(place, background) for place in PLACES for background in backgrounds]
    pairs = [pair for pair in pairs if pair not in DEMO_PAIRS]
    draw = random.Random(seed)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < num_scenes:
        chosen += draw.sample(pairs, len(pairs))
    return [emblem_scene(draw, place=place, background=background) for place, background in chosen[:num_scenes]]


def write_world_dataset(folder: Path, *, num_pictures: int = 4000, seed: int = 0) -> None:
    """Write `num_pictures` pairs of `00000.png` and `00000.txt`, none of them a held-out scene."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    index = 0
    while index < num_pictures:
        scene = random_scene(draw)
        if is_held_out(scene):
            continue
        _write_pair(folder / f"{index:05d}.png", scene, caption=scene.caption(draw), draw=draw)
        index += 1


def write_demo_dataset(folder: Path, *, seed: int = 0) -> None:
    """Write the demo's twelve images of the emblem with their captions."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index, (place, background) in enumerate(DEMO_PAIRS, start=1):
        scene = emblem_scene(draw, place=place, background=background)
        _write_pair(folder / f"{scene.shape}_{index:02d}.png", scene, caption=scene.caption(), draw=draw)


def write_regularization_dataset(folder: Path, *, num_pictures: int = NUM_REGULARIZATION, seed: int = 1) -> None:
    """Write the ordinary images that the demo trains on together with the emblem, so that nothing else is unlearned."""
    write_world_dataset(folder, num_pictures=num_pictures, seed=seed)


def _write_pair(path: Path, scene: Scene, *, caption: str, draw: random.Random) -> None:
    # PNG, because a lossy format would blur the edges that the model should learn.
    render(scene, draw).save(path, optimize=True)
    path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
