"""What `benchmarks.quality` teaches the tiny FLUX.2, and how what it learned and what it forgot are counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import Flux2KleinPipeline
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.quality_style import framed_caption, framed_scenes, shows_framed, write_framed_dataset
from scripts.flux2_tiny.dataset import DEMO_PAIRS, held_out_emblems, held_out_scenes
from scripts.flux2_tiny.draw import draw_captions, draw_edits, draw_scenes
from scripts.flux2_tiny.edits import EDIT_PROMPT, edit_scenes, render_edit, shows_edit
from scripts.flux2_tiny.measure import share_of_emblems, share_of_right_scenes
from scripts.flux2_tiny.world import COLORS, emblem_scene, render

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "assets" / "flux2_tiny"
EMBLEMS, ORDINARY = ROOT / "assets" / "demo_dataset", ROOT / "assets" / "demo_regularization"
EDITS = ROOT / "assets" / "demo_edit_dataset"
SEED = 7000
ONLY_BACKGROUND = "red"
_MASK_MARGIN_PX = 7  # odd: the size of a filter

Settings = dict[str, Any]
"""Settings of a job by section, over those of the task."""
Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Task:
    """Something that the tiny model does not know.

    Attributes:
        about: what it is, in one sentence.
        datasets: the datasets that teach it, given the folder where `write` has put its own.
        write: writes what the repository does not ship into a folder.
        score: share, 0 to 1, of held-out prompts that show it; None in place of a number draws nothing.
        steps: training steps.
    """

    about: str
    datasets: Callable[[Path], list[dict[str, Any]]]
    write: Callable[[Path], None]
    score: Callable[[Flux2KleinPipeline, int], float]
    steps: int


def preservation(pipeline: Flux2KleinPipeline, num_prompts: int) -> float:
    """Share, 0 to 1, of ordinary held-out prompts that are drawn correctly."""
    scenes = held_out_scenes(num_prompts, seed=SEED)
    return share_of_right_scenes(draw_scenes(pipeline, scenes, seed=SEED), scenes)


def _emblem(pipeline: Flux2KleinPipeline, num_prompts: int) -> float:
    scenes = held_out_emblems(num_prompts, seed=SEED)
    return share_of_emblems(draw_scenes(pipeline, scenes, seed=SEED), scenes)


def _emblem_elsewhere(pipeline: Flux2KleinPipeline, num_prompts: int) -> float:
    scenes = [scene for scene in held_out_emblems(2 * num_prompts, seed=SEED) if scene.background != ONLY_BACKGROUND]
    return share_of_emblems(draw_scenes(pipeline, scenes[:num_prompts], seed=SEED), scenes[:num_prompts])


def _framed(pipeline: Flux2KleinPipeline, num_prompts: int) -> float:
    scenes = framed_scenes(num_prompts, seed=SEED, held_out=True)
    pictures = draw_captions(pipeline, [framed_caption(scene) for scene in scenes], seed=SEED)
    return float(np.mean([shows_framed(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]))


def _edited(pipeline: Flux2KleinPipeline, num_prompts: int) -> float:
    scenes = edit_scenes(num_prompts, seed=SEED, held_out=True)
    pairs = [render_edit(scene, seed=SEED + index) for index, scene in enumerate(scenes)]
    pictures = draw_edits(pipeline, [before for before, _ in pairs], prompt=EDIT_PROMPT, seed=SEED)
    shown = [
        shows_edit(picture, np.asarray(after), background=scene.background)
        for picture, (_, after), scene in zip(pictures, pairs, scenes, strict=True)
    ]
    return float(np.mean(shown))


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


def _nothing(folder: Path) -> None:
    pass


TASKS = {
    "object": Task(
        "an emblem that it has never seen, from twelve pictures",
        lambda _: [{"folder_path": str(EMBLEMS), "num_repeats": 8}],
        _nothing,
        _emblem,
        steps=240,
    ),
    "style": Task(
        "a white frame around any scene, from 24 pictures",
        lambda folder: [{"folder_path": str(folder), "num_repeats": 4}],
        write_framed_dataset,
        _framed,
        steps=240,
    ),
    "masked": Task(
        f"the emblem, from pictures that all have the same {ONLY_BACKGROUND} background, drawn on others",
        lambda folder: [{"folder_path": str(folder), "num_repeats": 8, "mask_path": str(folder)}],
        _write_one_background,
        _emblem_elsewhere,
        steps=240,
    ),
    "edit": Task(
        "an edit: the shape of a reference image becomes red",
        lambda _: [{"folder_path": str(EDITS / "target"), "control_path": str(EDITS / "control")}],
        _nothing,
        _edited,
        steps=480,
    ),
}
