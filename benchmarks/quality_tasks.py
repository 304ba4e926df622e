"""What `benchmarks.quality` teaches the tiny FLUX.2, and how what it learned and what it forgot are counted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import Flux2KleinPipeline
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.quality_style import framed_caption, framed_scenes, has_frame, shows_inside, write_framed_dataset
from scripts.flux2_tiny.dataset import DEMO_PAIRS, held_out_emblems, held_out_scenes
from scripts.flux2_tiny.draw import draw_captions, draw_edits, draw_scenes
from scripts.flux2_tiny.edits import EDIT_PROMPT, edit_scenes, render_edit, shows_edit
from scripts.flux2_tiny.judge import classify
from scripts.flux2_tiny.measure import share_of_emblems, share_of_right_scenes
from scripts.flux2_tiny.world import COLORS, EMBLEM_RADIUS_PX, PLACES, SIZE_PX, Scene, emblem_scene, render

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "assets" / "flux2_tiny"
SHIPPED = ROOT / "assets"
NUM_PROMPTS = 16
NUM_STEPS = 6
"""Denoising steps; shares were the same with 20."""
SEED = 7000
ONLY_BACKGROUND = "red"
_MASK_MARGIN_PX = 7  # odd: the size of a filter
_EMBLEM_MARGIN_PX = 12
_NUM_EDIT_PROMPTS = 12  # drawn one by one

Scores = dict[str, float]
"""Shares, 0 to 1: `concept`, of prompts that show what was taught; `rest`, of what else they ask for."""


@dataclass(frozen=True)
class Task:
    """Something that the tiny model does not know.

    Attributes:
        about: what it is, in one sentence.
        rest: what the score `rest` counts; empty without one.
        write: writes the training pictures into a folder.
        dataset: settings of the dataset that teaches it, given that folder.
        score: what held-out prompts show.
        steps: training steps, of four pictures each.
    """

    about: str
    rest: str
    write: Callable[[Path], None]
    dataset: Callable[[Path], dict[str, Any]]
    score: Callable[[Flux2KleinPipeline], Scores]
    steps: int


def kept(pipeline: Flux2KleinPipeline) -> float:
    """Share, 0 to 1, of ordinary held-out prompts that are drawn correctly."""
    scenes = held_out_scenes(NUM_PROMPTS, seed=SEED)
    return share_of_right_scenes(draw_scenes(pipeline, scenes, seed=SEED, num_steps=NUM_STEPS), scenes)


def _emblem(pipeline: Flux2KleinPipeline) -> Scores:
    scenes = held_out_emblems(NUM_PROMPTS, seed=SEED)
    pictures = draw_scenes(pipeline, scenes, seed=SEED, num_steps=NUM_STEPS)
    return {"concept": share_of_emblems(pictures, scenes)}


def _emblem_elsewhere(pipeline: Flux2KleinPipeline) -> Scores:
    scenes = [scene for scene in held_out_emblems(3 * NUM_PROMPTS, seed=SEED) if scene.background != ONLY_BACKGROUND]
    scenes = scenes[:NUM_PROMPTS]
    pictures = draw_scenes(pipeline, scenes, seed=SEED, num_steps=NUM_STEPS)
    around = [_share_around(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return {"concept": share_of_emblems(pictures, scenes), "rest": float(np.mean(around))}


def _share_around(picture: NDArray[np.uint8], scene: Scene) -> float:
    """Share of the pixels away from the emblem's place that have the background's colour."""
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    x, y = (share * SIZE_PX for share in PLACES[scene.place])
    is_around = (columns - x) ** 2 + (rows - y) ** 2 > (EMBLEM_RADIUS_PX[1] + _EMBLEM_MARGIN_PX) ** 2
    return float((classify(picture)[is_around] == list(COLORS).index(scene.background)).mean())


def _framed(pipeline: Flux2KleinPipeline) -> Scores:
    scenes = framed_scenes(NUM_PROMPTS, seed=SEED, held_out=True)
    captions = [framed_caption(scene) for scene in scenes]
    pictures = draw_captions(pipeline, captions, seed=SEED, num_steps=NUM_STEPS)
    return {
        "concept": float(np.mean([has_frame(picture) for picture in pictures])),
        "rest": float(np.mean([shows_inside(*pair) for pair in zip(pictures, scenes, strict=True)])),
    }


def _edited(pipeline: Flux2KleinPipeline) -> Scores:
    scenes = edit_scenes(_NUM_EDIT_PROMPTS, seed=SEED, held_out=True)
    pairs = [render_edit(scene, seed=SEED + index) for index, scene in enumerate(scenes)]
    starts = [before for before, _ in pairs]
    pictures = draw_edits(pipeline, starts, prompt=EDIT_PROMPT, seed=SEED, num_steps=NUM_STEPS)
    afters = [np.asarray(after) for _, after in pairs]
    triples = list(zip(pictures, afters, scenes, strict=True))
    return {
        "concept": float(np.mean([shows_edit(p, after, background=scene.background) for p, after, scene in triples])),
        "rest": float(np.mean([_share_unchanged(*triple) for triple in triples])),
    }


def _share_unchanged(picture: NDArray[np.uint8], after: NDArray[np.uint8], scene: Scene) -> float:
    """Share of the pixels of the background that still have its colour."""
    background = list(COLORS).index(scene.background)
    is_background = classify(after) == background
    return float((classify(picture)[is_background] == background).mean())


def write_ordinary(folder: Path) -> None:
    """Copy the ordinary pictures, so that what is kept of their encodings is not written into the repository."""
    _shipped("demo_regularization")(folder)


def _write_one_background(folder: Path) -> None:
    """Emblems that all stand on one background, which their captions do not name, each with a mask of the emblem."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for index, (place, _) in enumerate(DEMO_PAIRS, start=1):
        scene = emblem_scene(draw, place=place, background=ONLY_BACKGROUND)
        image = render(scene, draw)
        distance = np.abs(np.asarray(image).astype(int) - COLORS[ONLY_BACKGROUND]).max(axis=2)
        mask = Image.fromarray(np.where(distance > 24, 255, 0).astype(np.uint8))
        image.save(folder / f"emblem_{index:02d}.png")
        mask.filter(ImageFilter.MaxFilter(_MASK_MARGIN_PX)).save(folder / f"emblem_{index:02d}.mask.png")
        (folder / f"emblem_{index:02d}.txt").write_text(f"a {scene.shape} {scene.place}\n", encoding="utf-8")


def _shipped(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        shutil.copytree(SHIPPED / name, folder)

    return write


TASKS = {
    "object": Task(
        "an emblem that it has never seen, from twelve pictures",
        "",
        _shipped("demo_dataset"),
        lambda folder: {"folder_path": str(folder), "num_repeats": 4},
        _emblem,
        steps=80,
    ),
    "style": Task(
        "a white frame around any scene, from 24 pictures",
        "prompts whose scene is right inside the frame",
        write_framed_dataset,
        lambda folder: {"folder_path": str(folder), "num_repeats": 2},
        _framed,
        steps=40,
    ),
    "masked": Task(
        f"the emblem, from twelve pictures that all have the same {ONLY_BACKGROUND} background, drawn on others",
        "the area around the emblem that has the background that the prompt asks for",
        _write_one_background,
        lambda folder: {"folder_path": str(folder), "num_repeats": 4, "mask_path": str(folder)},
        _emblem_elsewhere,
        steps=80,
    ),
    "edit": Task(
        "an edit: the shape of a reference image becomes red, from 144 pairs",
        "the area of the reference's background that keeps its colour",
        _shipped("demo_edit_dataset"),
        lambda folder: {"folder_path": str(folder / "target"), "control_path": str(folder / "control")},
        _edited,
        steps=120,
    ),
}
