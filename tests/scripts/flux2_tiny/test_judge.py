"""The pixel rules accept what was asked for, and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.flux2_tiny.judge import judge_scene, shows_emblem
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

Drawn = list[tuple[NDArray[np.uint8], Scene]]


@pytest.fixture(scope="module")
def ordinary() -> Drawn:
    draw = random.Random(11)
    return [(np.asarray(render(scene, draw)), scene) for scene in (random_scene(draw) for _ in range(150))]


@pytest.fixture(scope="module")
def emblems() -> Drawn:
    draw = random.Random(12)
    backgrounds = [color for color in COLORS if color not in (EMBLEM_TOP, EMBLEM_BOTTOM)]
    scenes = [emblem_scene(draw, place=place, background=color) for place in PLACES for color in backgrounds]
    return [(np.asarray(render(scene, draw)), scene) for scene in scenes]


def test_rendered_scenes_are_right(ordinary: Drawn) -> None:
    assert np.mean([judge_scene(image, scene).right for image, scene in ordinary]) >= 0.99


@pytest.mark.parametrize(
    ("prop", "values"), [("color", tuple(COLORS)), ("background", tuple(COLORS)), ("place", tuple(PLACES))]
)
def test_a_scene_with_one_other_property_is_wrong(ordinary: Drawn, prop: str, values: tuple[str, ...]) -> None:
    draw = random.Random(13)
    for image, scene in ordinary:
        others = [value for value in values if value not in (scene.color, scene.background, scene.place)]
        verdict = judge_scene(image, replace(scene, **{prop: draw.choice(others)}))
        assert not getattr(verdict, prop)
        assert not verdict.right


def test_noise_and_a_slight_tint_are_forgiven(ordinary: Drawn) -> None:
    generator = np.random.default_rng(0)
    right = []
    for image, scene in ordinary:
        tint = generator.normal(0, 8, 3)
        changed = image + tint + generator.normal(0, 8, image.shape)
        right.append(judge_scene(changed.clip(0, 255).astype(np.uint8), scene).right)
    assert np.mean(right) >= 0.97


def test_an_empty_picture_is_wrong() -> None:
    image = np.full((128, 128, 3), COLORS["red"], dtype=np.uint8)
    verdict = judge_scene(image, Scene("circle", "blue", "small", "in the center", "red"))
    assert verdict.background
    assert not (verdict.color or verdict.place)
    assert not shows_emblem(image, place="in the center", background="red")


def test_emblems_are_recognised(emblems: Drawn) -> None:
    shown = [shows_emblem(image, place=scene.place, background=scene.background) for image, scene in emblems]
    assert np.mean(shown) >= 0.99


def test_an_emblem_elsewhere_or_on_another_background_does_not_count(emblems: Drawn) -> None:
    for image, scene in emblems:
        elsewhere = next(place for place in PLACES if place != scene.place)
        other = next(color for color in COLORS if color != scene.background)
        assert not shows_emblem(image, place=elsewhere, background=scene.background)
        assert not shows_emblem(image, place=scene.place, background=other)


def test_an_emblem_upside_down_does_not_count(emblems: Drawn) -> None:
    for image, scene in emblems:
        if "top" not in scene.place and "bottom" not in scene.place:
            assert not shows_emblem(image[::-1], place=scene.place, background=scene.background)


def test_no_ordinary_scene_passes_for_an_emblem(ordinary: Drawn) -> None:
    assert not any(shows_emblem(image, place=scene.place, background=scene.background) for image, scene in ordinary)


def test_half_an_emblem_beside_the_other_does_not_count() -> None:
    image = np.full((128, 128, 3), COLORS["white"], dtype=np.uint8)
    image[52:76, 40:64] = COLORS[EMBLEM_TOP]
    image[52:76, 64:88] = COLORS[EMBLEM_BOTTOM]
    assert not shows_emblem(image, place="in the center", background="white")
