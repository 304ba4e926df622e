"""Count how many images show what their prompts ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.flux2_tiny.dataset import held_out_scenes
from scripts.flux2_tiny.draw import draw_scenes, load_pipeline
from scripts.flux2_tiny.judge import judge_scene, shows_emblem
from scripts.flux2_tiny.world import Scene


def measure_model(folder: Path, *, num_prompts: int = 256, seed: int = 1000) -> dict[str, float]:
    """Shares of held-out prompts drawn with correct background, colour and place, and with all three correct."""
    scenes = held_out_scenes(num_prompts, seed=seed)
    pictures = draw_scenes(load_pipeline(folder), scenes, seed=seed)
    verdicts = [judge_scene(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return {
        "background": float(np.mean([verdict.background for verdict in verdicts])),
        "color": float(np.mean([verdict.color for verdict in verdicts])),
        "place": float(np.mean([verdict.place for verdict in verdicts])),
        "right": float(np.mean([verdict.right for verdict in verdicts])),
    }


def share_of_right_scenes(pictures: Sequence[NDArray[np.uint8]], scenes: Sequence[Scene]) -> float:
    """Share of ordinary scenes that are drawn correctly."""
    return float(np.mean([judge_scene(p, s).right for p, s in zip(pictures, scenes, strict=True)]))


def share_of_emblems(pictures: Sequence[NDArray[np.uint8]], scenes: Sequence[Scene]) -> float:
    """Share of images that show the emblem at the right place on the right background."""
    shown = [
        shows_emblem(picture, place=scene.place, background=scene.background)
        for picture, scene in zip(pictures, scenes, strict=True)
    ]
    return float(np.mean(shown))
