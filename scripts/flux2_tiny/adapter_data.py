"""Make the data of the adapters' examples: scenes whose captions leave out what a second image shows.

    python -m scripts.flux2_tiny.adapter_data

writes, in seconds and the same each time, below `output/adapter_data` (another folder can be named):

    color/images/0000.png, .txt    scenes; their captions leave out the colour of the shape
    color/views/0000.png           a swatch of that colour, for the image with the same name
    color/unseen/1.png ...         swatches for the samples
    edges/images/0000.png, .txt    scenes; their captions only say the colours
    edges/control/0000.png         the edges of the shape, white on black
    edges/unseen/1.png ...         edges of shapes that are in no image, for the samples
    scenes/images/0000.png, .txt   scenes with their full captions
    vision                         a small vision encoder with random weights

The scenes that `held_out_examples` returns are in none of these images.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFilter

from scripts.flux2_tiny.dataset import is_held_out
from scripts.flux2_tiny.vision import write_vision_encoder
from scripts.flux2_tiny.world import COLORS, SIZE_PX, Scene, random_scene, render

FOLDER = Path(__file__).resolve().parents[2] / "output" / "adapter_data"
NUM_EXAMPLES = 240
NUM_UNSEEN = 3
SWATCH_JITTER = 10
"""A swatch differs from its colour by at most this much in each channel, 0..255, so that no two are equal."""

EDGE_PX = 5
"""Width of the drawn edges. The VAE has 16 pixels a token: of a line of one pixel it passes on next to nothing."""


@dataclass(frozen=True)
class AdapterExample:
    """One image, what is said of it, and what is shown of it.

    Attributes:
        scene: what the image shows.
        caption: what the prompt says of it.
        picture: the image.
        shown: the second image, which an adapter sees; None where nothing is shown.
    """

    scene: Scene
    caption: str
    picture: Image.Image
    shown: Image.Image | None


@dataclass(frozen=True)
class Toy:
    """One of the data sets.

    Attributes:
        shown_folder: folder of the second images; None where there are none.
        make: makes an example of a scene with a generator.
    """

    shown_folder: str | None
    make: Callable[[Scene, random.Random], AdapterExample]


def with_swatch(scene: Scene, draw: random.Random) -> AdapterExample:
    """An example whose caption leaves out the colour of the shape, which is shown instead."""
    caption = scene.caption(draw).replace(f"{scene.color} {scene.shape}", scene.shape)
    red, green, blue = (
        min(255, max(0, value + draw.randint(-SWATCH_JITTER, SWATCH_JITTER))) for value in COLORS[scene.color]
    )
    swatch = Image.new("RGB", (SIZE_PX, SIZE_PX), (red, green, blue))
    return AdapterExample(scene, caption, render(scene, draw), swatch)


def with_edges(scene: Scene, draw: random.Random) -> AdapterExample:
    """An example whose caption says the two colours, and whose shape, size and place are shown by edges."""
    seed = draw.getrandbits(32)
    white_on_black = {**COLORS, scene.background: (0, 0, 0), scene.color: (255, 255, 255)}
    shape = render(scene, random.Random(seed), palette=white_on_black)
    edges = shape.convert("L").filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(EDGE_PX)).convert("RGB")
    caption = f"{scene.color} on a {scene.background} background"
    return AdapterExample(scene, caption, render(scene, random.Random(seed)), edges)


def plain(scene: Scene, draw: random.Random) -> AdapterExample:
    """An example whose caption says everything."""
    return AdapterExample(scene, scene.caption(draw), render(scene, draw), None)


TOYS = {"color": Toy("views", with_swatch), "edges": Toy("control", with_edges), "scenes": Toy(None, plain)}


def training_examples(toy: str, count: int, *, seed: int = 0) -> list[AdapterExample]:
    """Examples of one of `TOYS` for training."""
    return _examples(toy, count, seed=seed, held_out=False)


def held_out_examples(toy: str, count: int, *, seed: int) -> list[AdapterExample]:
    """Examples of scenes that are in no training image."""
    return _examples(toy, count, seed=seed, held_out=True)


def write_adapter_data(folder: Path, *, toys: Sequence[str] = tuple(TOYS), num_examples: int = NUM_EXAMPLES) -> None:
    """Write the data sets below a folder, as the module describes them."""
    for name in toys:
        base, shown_folder = folder / name, TOYS[name].shown_folder
        for index, example in enumerate(training_examples(name, num_examples)):
            _save(example.picture, base / "images" / f"{index:04d}.png")
            (base / "images" / f"{index:04d}.txt").write_text(example.caption + "\n", encoding="utf-8")
            if shown_folder is not None and example.shown is not None:
                _save(example.shown, base / shown_folder / f"{index:04d}.png")
        for index, example in enumerate(held_out_examples(name, NUM_UNSEEN, seed=0), start=1):
            if example.shown is not None:
                _save(example.shown, base / "unseen" / f"{index}.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.flux2_tiny.adapter_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="where to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    write_adapter_data(options.folder)
    write_vision_encoder(options.folder / "vision")
    print(f"{NUM_EXAMPLES} examples of each kind, and a vision encoder: {options.folder}")
    return 0


def _examples(toy: str, count: int, *, seed: int, held_out: bool) -> list[AdapterExample]:
    draw = random.Random(seed)
    examples: list[AdapterExample] = []
    while len(examples) < count:
        scene, own_seed = random_scene(draw), draw.getrandbits(32)
        if is_held_out(scene) is held_out:
            examples.append(TOYS[toy].make(scene, random.Random(own_seed)))
    return examples


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    sys.exit(main())
