"""The captioned world of the tiny FLUX.2: one flat shape on a flat background, 128 x 128 pixels."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE_PX = 128
SUPERSAMPLING = 4

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 45),
    "green": (40, 160, 70),
    "blue": (45, 85, 215),
    "yellow": (245, 215, 50),
    "orange": (240, 130, 30),
    "purple": (135, 60, 175),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
RADIUS_PX: dict[str, tuple[float, float]] = {"small": (14, 17), "medium": (20, 23), "large": (26, 29)}
# Place -> centre as fractions of width and height.
PLACES: dict[str, tuple[float, float]] = {
    "at the top left": (0.26, 0.26),
    "at the top": (0.50, 0.26),
    "at the top right": (0.74, 0.26),
    "on the left": (0.26, 0.50),
    "in the center": (0.50, 0.50),
    "on the right": (0.74, 0.50),
    "at the bottom left": (0.26, 0.74),
    "at the bottom": (0.50, 0.74),
    "at the bottom right": (0.74, 0.74),
}
# The new concept of the demo: a disc of two halves, which does not occur in the world above.
EMBLEM = "zorbo"
EMBLEM_TOP, EMBLEM_BOTTOM = "white", "black"
EMBLEM_RADIUS_PX = (22, 26)


@dataclass(frozen=True)
class Scene:
    """The content of one image: a shape at a place on a background. `shape` may be the demo's emblem."""

    shape: str
    color: str
    size: str
    place: str
    background: str

    def caption(self, draw: random.Random | None = None) -> str:
        """The scene in words; with a generator, in a random phrasing of the training set."""
        if self.shape == EMBLEM:
            return f"a {EMBLEM} {self.place} on a {self.background} background"
        thing = f"{self.size} {self.color} {self.shape}"
        if draw is not None and draw.random() < 0.25:
            thing = f"{self.color} {self.shape}"
        if draw is not None and draw.random() < 0.25:
            return f"{self.background} background with a {thing} {self.place}"
        return f"a {thing} {self.place} on a {self.background} background"


def random_scene(draw: random.Random) -> Scene:
    """A scene with uniformly drawn properties; shape and background never have the same colour."""
    color, background = draw.sample(sorted(COLORS), 2)
    return Scene(
        shape=draw.choice(SHAPES),
        color=color,
        size=draw.choice(sorted(RADIUS_PX)),
        place=draw.choice(list(PLACES)),
        background=background,
    )


def emblem_scene(draw: random.Random, *, place: str, background: str) -> Scene:
    """The demo's emblem at a place, on a background that is not one of its own colours."""
    if background in (EMBLEM_TOP, EMBLEM_BOTTOM):
        raise ValueError(f"the emblem is not visible on {background}")
    return Scene(shape=EMBLEM, color=EMBLEM_TOP, size="medium", place=place, background=background)


def render(
    scene: Scene,
    draw: random.Random,
    *,
    palette: dict[str, tuple[int, int, int]] | None = None,
) -> Image.Image:
    """Render a scene, anti-aliased, with a few pixels of jitter in position and radius.

    Args:
        scene: the scene to render.
        draw: random generator for the jitter.
        palette: RGB values for the colour names in the scene; default: the world's own.

    Returns:
        an RGB image of 128 x 128 pixels.
    """
    palette = palette or COLORS
    low, high = EMBLEM_RADIUS_PX if scene.shape == EMBLEM else RADIUS_PX[scene.size]
    radius = draw.uniform(low, high) * SUPERSAMPLING
    side = SIZE_PX * SUPERSAMPLING
    x, y = (share * side + draw.uniform(-3, 3) * SUPERSAMPLING for share in PLACES[scene.place])
    image = Image.new("RGB", (side, side), palette[scene.background])
    canvas = ImageDraw.Draw(image)
    if scene.shape == EMBLEM:
        box = (x - radius, y - radius, x + radius, y + radius)
        canvas.pieslice(box, 180, 360, fill=palette[EMBLEM_TOP])
        canvas.pieslice(box, 0, 180, fill=palette[EMBLEM_BOTTOM])
    else:
        _draw_shape(canvas, scene.shape, x, y, radius, palette[scene.color], palette[scene.background])
    return image.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)


def _draw_shape(
    canvas: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    radius: float,
    fill: tuple[int, int, int],
    background: tuple[int, int, int],
) -> None:
    if shape in ("circle", "ring"):
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        if shape == "ring":
            hole = 0.5 * radius
            canvas.ellipse((x - hole, y - hole, x + hole, y + hole), fill=background)
    elif shape == "square":
        half = 0.88 * radius
        canvas.rectangle((x - half, y - half, x + half, y + half), fill=fill)
    elif shape == "cross":
        arm = 0.36 * radius
        canvas.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
        canvas.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
    else:
        corners = {"triangle": (90, 210, 330), "diamond": (0, 90, 180, 270)}[shape]
        stretch = 1.15 if shape == "triangle" else 1.05
        points = [
            (
                x + stretch * radius * math.cos(math.radians(angle)),
                y - stretch * radius * math.sin(math.radians(angle)),
            )
            for angle in corners
        ]
        canvas.polygon(points, fill=fill)
