"""The pixels of an example: every mode, orientation, crop and flip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from toolkit.data import Example
from toolkit.data.examples import Colors
from toolkit.data.images import load_image, load_pixels
from toolkit.errors import UserError
from toolkit.randomness import Draws

MakeExample = Callable[..., Example]
WHITE = (255, 255, 255)
GREEN = (0, 255, 0)


def color_of(pixels: Tensor) -> list[int]:
    """The one colour of pixels, 0..255."""
    flat = ((pixels + 1) * 127.5).round().flatten(1)  # [3, H * W]
    assert torch.equal(flat.amin(1), flat.amax(1)), "more than one colour"
    return [int(value) for value in flat[:, 0]]


def saved(tmp_path: Path, image: Image.Image, ending: str = "png", **options: Any) -> Path:
    path = tmp_path / f"image.{ending}"
    image.save(path, **options)
    return path


def quarters() -> Image.Image:
    """64 x 64: red and green above, blue and white below."""
    values = numpy.zeros((64, 64, 3), dtype=numpy.uint8)
    values[:32, :32, 0] = 255
    values[:32, 32:, 1] = 255
    values[32:, :32, 2] = 255
    values[32:, 32:] = 255
    return Image.fromarray(values)


def corners(pixels: Tensor) -> str:
    """The colours of the four corners, row by row: r, g, b, w."""
    names = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}
    places = [(4, 4), (4, -5), (-5, 4), (-5, -5)]
    return "".join(names[tuple(int(value > 0) for value in pixels[:, y, x])] for y, x in places)  # type: ignore[index]


def test_pixels_are_fp32_channels_first_from_minus_one_to_one(tmp_path: Path, make_example: MakeExample) -> None:
    path = saved(tmp_path, Image.new("RGB", (96, 48), (0, 255, 51)))
    pixels = load_pixels(make_example(path, (96, 48), resolution=128), background=WHITE)
    assert (pixels.shape, pixels.dtype, pixels.is_contiguous()) == ((3, 48, 96), torch.float32, True)
    assert pixels[:, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])


def half_transparent_palette() -> Image.Image:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return image


MODES: dict[str, tuple[Callable[[], Image.Image], dict[str, Any], list[int]]] = {
    "rgb": (lambda: Image.new("RGB", (64, 64), (10, 20, 30)), {}, [10, 20, 30]),
    "grey": (lambda: Image.new("L", (64, 64), 77), {}, [77, 77, 77]),
    "one bit": (lambda: Image.new("1", (64, 64), 1), {}, [255, 255, 255]),
    "palette": (half_transparent_palette, {}, [0, 0, 255]),
    "palette, colour transparent": (half_transparent_palette, {"transparency": 1}, [0, 255, 0]),
    "palette, colour half transparent": (half_transparent_palette, {"transparency": bytes([255, 51])}, [0, 204, 51]),
    "rgba, opaque": (lambda: Image.new("RGBA", (64, 64), (10, 20, 30, 255)), {}, [10, 20, 30]),
    "rgba, transparent": (lambda: Image.new("RGBA", (64, 64), (10, 20, 30, 0)), {}, [0, 255, 0]),
    "rgba, partly": (lambda: Image.new("RGBA", (64, 64), (255, 0, 0, 51)), {}, [51, 204, 0]),
    "grey and alpha": (lambda: Image.new("LA", (64, 64), (255, 51)), {}, [51, 255, 51]),
    "rgb, colour transparent": (
        lambda: Image.new("RGB", (64, 64), (1, 2, 3)),
        {"transparency": (1, 2, 3)},
        [0, 255, 0],
    ),
    "grey, value transparent": (lambda: Image.new("L", (64, 64), 9), {"transparency": 9}, [0, 255, 0]),
    "16 bit": (lambda: Image.fromarray(numpy.full((64, 64), 32768, dtype=numpy.uint16)), {}, [128, 128, 128]),
    "16 bit, brightest": (lambda: Image.fromarray(numpy.full((64, 64), 65535, dtype=numpy.uint16)), {}, [255] * 3),
    "16 bit, dark": (lambda: Image.fromarray(numpy.full((64, 64), 300, dtype=numpy.uint16)), {}, [1, 1, 1]),
    "16 bit, value transparent": (
        lambda: Image.fromarray(numpy.full((64, 64), 300, dtype=numpy.uint16)),
        {"transparency": 300},
        [0, 255, 0],
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_of_a_png_becomes_rgb_on_the_stated_background(
    tmp_path: Path, make_example: MakeExample, name: str
) -> None:
    make, options, color = MODES[name]
    path = saved(tmp_path, make(), **options)
    assert color_of(load_pixels(make_example(path, (64, 64)), background=GREEN)) == color


def test_a_transparent_webp_is_laid_on_the_background(tmp_path: Path, make_example: MakeExample) -> None:
    path = saved(tmp_path, Image.new("RGBA", (64, 64), (255, 0, 0, 51)), "webp", lossless=True)
    assert color_of(load_pixels(make_example(path, (64, 64)), background=GREEN)) == [51, 204, 0]


@pytest.mark.parametrize(
    ("ink", "color"), [((0, 255, 255, 0), (254, 0, 0)), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_a_cmyk_jpeg_has_its_colours(
    tmp_path: Path, make_example: MakeExample, ink: tuple[int, ...], color: tuple[int, ...]
) -> None:
    path = saved(tmp_path, Image.new("CMYK", (64, 64), ink), "jpg", quality=100)
    pixels = color_of(load_pixels(make_example(path, (64, 64)), background=WHITE))
    assert all(abs(got - wanted) <= 2 for got, wanted in zip(pixels, color, strict=True))


def test_a_grey_jpeg_has_its_grey(tmp_path: Path, make_example: MakeExample) -> None:
    path = saved(tmp_path, Image.new("L", (64, 64), 90), "jpg")
    assert color_of(load_pixels(make_example(path, (64, 64)), background=WHITE)) == [90, 90, 90]


def test_the_first_picture_of_several_is_taken(tmp_path: Path, make_example: MakeExample) -> None:
    first, second = Image.new("RGB", (64, 64), (255, 0, 0)), Image.new("RGB", (64, 64), (0, 0, 255))
    savers: dict[str, dict[str, Any]] = {
        "png": {},
        "webp": {"lossless": True},
        "jpg": {"format": "MPO", "quality": 100},
        "jpeg": {"format": "GIF"},
    }
    for ending, options in savers.items():
        path = saved(tmp_path, first, ending, save_all=True, append_images=[second], **options)
        pixels = load_pixels(make_example(path, (64, 64)), background=WHITE)
        assert color_of(pixels)[0] >= 253, ending


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (4, "bwrg"), (5, "rbgw"), (6, "brwg"), (7, "wgbr"), (8, "gwrb")],
)
def test_every_exif_orientation_is_turned_upright(
    tmp_path: Path, make_example: MakeExample, ending: str, orientation: int, seen: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, quarters(), ending, exif=exif)
    assert corners(load_pixels(make_example(path, (64, 64)), background=WHITE)) == seen


@pytest.mark.parametrize(
    ("flip_x", "flip_y", "seen"),
    [(False, False, "rgbw"), (True, False, "grwb"), (False, True, "bwrg"), (True, True, "wbgr")],
)
def test_flips_mirror_the_picture(
    tmp_path: Path, make_example: MakeExample, flip_x: bool, flip_y: bool, seen: str
) -> None:
    example = make_example(saved(tmp_path, quarters()), (64, 64), flip_x=flip_x, flip_y=flip_y)
    assert corners(load_pixels(example, background=WHITE)) == seen


def test_the_pixels_have_the_size_of_the_bucket(tmp_path: Path, make_example: MakeExample) -> None:
    for size in [(500, 300), (300, 500), (64, 200), (17, 900), (9, 9), (1, 40)]:
        example = make_example(saved(tmp_path, Image.new("RGB", size, (9, 8, 7))), size)
        pixels = load_pixels(example, background=WHITE)
        assert (pixels.shape[2], pixels.shape[1]) == example.bucket
        assert color_of(pixels) == [9, 8, 7]


def test_an_image_of_the_buckets_size_keeps_every_pixel(tmp_path: Path, make_example: MakeExample) -> None:
    values = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    path = saved(tmp_path, Image.fromarray(values.numpy()))
    pixels = load_pixels(make_example(path, (64, 64)), background=WHITE)
    assert torch.equal(((pixels + 1) * 127.5).round().to(torch.uint8), values.permute(2, 0, 1))


def left_white(tmp_path: Path) -> Path:
    """100 x 64, its left 3 columns white, the rest black."""
    image = Image.new("RGB", (100, 64))
    image.paste(WHITE, (0, 0, 3, 64))
    return saved(tmp_path, image)


def test_the_crop_takes_the_middle_unless_it_is_moved(tmp_path: Path, make_example: MakeExample) -> None:
    example = make_example(left_white(tmp_path), (100, 64), resolution=96)
    assert (example.fit.resized, example.bucket) == ((100, 64), (96, 64))
    middle = load_pixels(example, background=WHITE)
    left = load_pixels(replace(example, fit=example.fit.cropped_at(0, 0)), background=WHITE)
    assert [(pixels[0, 0] > 0).sum().item() for pixels in (middle, left)] == [1, 3]


def test_random_crops_are_drawn_only_where_asked_for(tmp_path: Path, make_example: MakeExample) -> None:
    path = left_white(tmp_path)
    still = make_example(path, (100, 64), resolution=96)
    moving = replace(still, random_crop=True)
    draws = Draws(1)
    assert still.cropped_by(draws.python("crop", 0)) == still
    drawn = [moving.cropped_by(draws.python("crop", step)) for step in range(20)]
    assert len({example.fit.crop for example in drawn}) > 2
    assert moving.cropped_by(draws.python("crop", 3)) == drawn[3]


def test_an_image_that_changed_after_the_scan_is_refused(tmp_path: Path, make_example: MakeExample) -> None:
    path = saved(tmp_path, Image.new("RGB", (64, 64)))
    example = make_example(path, (64, 64))
    Image.new("RGB", (64, 64), WHITE).save(path)
    with pytest.raises(UserError, match="has changed"):
        load_pixels(example, background=WHITE)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_pixels(example, background=WHITE)


def test_colours_change_only_as_drawn_and_within_their_bounds(
    tmp_path: Path, make_example: Callable[..., Example]
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64), (120, 60, 60)).save(path)
    jitter = Colors(brightness=0.2, contrast=0.0, saturation=0.0, hue=0.0)
    example = make_example(path, (64, 64), jitter=jitter)
    reds = [corner(example.colored_by(Draws(1).python("colors", index, 0)))[0] for index in range(50)]
    assert min(reds) >= 96 and max(reds) <= 144 and len(set(reds)) > 20
    again = [corner(example.colored_by(Draws(1).python("colors", index, 0)))[0] for index in range(50)]
    assert again == reds and corner(example) == (120, 60, 60)


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        (Colors(hue=1 / 3), (60, 120, 60)),
        (Colors(hue=-1 / 3), (60, 60, 120)),
        (Colors(saturation=0), (78, 78, 78)),
        (Colors(brightness=0.5), (60, 30, 30)),
    ],
)
def test_each_change_of_colour_is_what_its_name_says(
    tmp_path: Path, make_example: Callable[..., Example], colors: Colors, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64), (120, 60, 60)).save(path)
    found = corner(make_example(path, (64, 64), colors=colors))
    assert all(abs(one - other) <= 2 for one, other in zip(found, expected, strict=True))


def corner(example: Example) -> tuple[int, ...]:
    pixel = load_image(example, background=(0, 0, 0)).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel
