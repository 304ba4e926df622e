"""What a trained adapter of each kind must show on held-out examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.flux2_tiny.adapter_data import AdapterExample
from scripts.flux2_tiny.judge import classify, judge_scene
from scripts.flux2_tiny.world import COLORS

Score = Callable[[NDArray[np.uint8], AdapterExample], float]
"""How well an image [128, 128, 3], 0..255, shows an example: 0..1."""


@dataclass(frozen=True)
class Task:
    """What is asked of one kind of adapter.

    Attributes:
        toy: the data set, a key of `adapter_data.TOYS`.
        measures: the score, in words.
        score: scores one image.
        least: smallest mean score with the example's own input.
        most: largest mean score without an input, and with that of another example.
        off: what the model is without the adapter, in words.
    """

    toy: str
    measures: str
    score: Score
    least: float
    most: float
    off: str = "adapter off"


def color_is_right(picture: NDArray[np.uint8], example: AdapterExample) -> float:
    """1 if the shape has the colour that only the swatch shows, in a plausible size, else 0."""
    return float(judge_scene(picture, example.scene).color)


def overlap_with_shape(picture: NDArray[np.uint8], example: AdapterExample) -> float:
    """Intersection over union of the pixels of the shape's colour in the image and in the true image."""
    color = list(COLORS).index(example.scene.color)
    drawn, wanted = classify(picture) == color, classify(np.asarray(example.picture)) == color
    return float((drawn & wanted).sum() / max(1, (drawn | wanted).sum()))


def all_is_right(picture: NDArray[np.uint8], example: AdapterExample) -> float:
    """1 if background, colour and place are right, else 0."""
    return float(judge_scene(picture, example.scene).right)


_COLOR = "colour right"
TASKS = {
    "ip": Task("color", _COLOR, color_is_right, 0.60, 0.20),
    "ip+": Task("color", _COLOR, color_is_right, 0.60, 0.20),
    "vision_direct": Task("color", _COLOR, color_is_right, 0.40, 0.20),
    "redux": Task("color", _COLOR, color_is_right, 0.50, 0.20),
    "control_lora": Task("edges", "overlap with the true shape", overlap_with_shape, 0.50, 0.15),
    "subpixel": Task("scenes", "all right", all_is_right, 0.70, 0.00, off="untrained first and last layer"),
}
