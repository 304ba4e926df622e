"""Loads the pixels of an example from any image file: upright, without transparency, at the size of its bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from toolkit.data.examples import Colors, Example, Reference, ViewImage
from toolkit.data.image_files import DECODE_ERRORS, IMAGES, ImageError, open_image, read_image, room_for
from toolkit.data.srgb import to_srgb
from toolkit.errors import UserError

Color = tuple[int, int, int]


def load_pixels(picture: Example | Reference, *, background: Color) -> Tensor:
    """The result of `load_image` as pixels, [3, H, W], fp32, -1..1."""
    pixels = torch.from_numpy(numpy.array(load_image(picture, background=background))).permute(2, 0, 1)  # [3, H, W]
    return pixels.contiguous().float() / 127.5 - 1.0


def load_image(picture: Example | Reference, *, background: Color) -> Image.Image:
    """Decode, rotate upright, flatten, resize (Lanczos), crop and flip one example or reference, to RGB.

    Args:
        picture: the example or reference to load; its `fit.crop` is used unchanged (see `Example.cropped_by`).
        background: red, green, blue (0..255) shown behind transparent pixels.

    Raises:
        UserError: the file is missing, cannot be decoded, or has changed since the scan.
    """
    fit = picture.fit
    image = _decode(
        picture, background, lambda whole: whole.resize(fit.resized, Image.Resampling.LANCZOS).crop(fit.crop_box)
    )
    if isinstance(picture, Example) and picture.colors != Colors():
        image = _with_colors(image, picture.colors)
    return _flip(image, picture)


def open_upright(picture: ViewImage) -> Image.Image:
    """Decode, rotate upright, flatten and flip an image, to RGB, at its own size.

    Raises:
        UserError: see `load_image`.
    """
    return _flip(_decode(picture, picture.background), picture)


def load_opacity(picture: Reference, *, cell_px: int) -> Tensor:
    """How opaque an image is, at the size and crop that it is trained at, [1, H / cell_px, W / cell_px], fp32, 0..1.

    The nearest pixel counts, so that a hard edge stays one.

    Args:
        picture: the image.
        cell_px: side of the square of pixels that one value stands for.
    """
    image = ImageOps.exif_transpose(open_image(_read(picture)))
    image = (_inverted(image) if picture.is_inverted else image.convert("RGBA")).getchannel("A")
    image = image.resize(picture.fit.resized, Image.Resampling.NEAREST).crop(picture.fit.crop_box)
    image = image.resize((image.width // cell_px, image.height // cell_px), Image.Resampling.NEAREST)
    image = _flip(image, picture)
    return torch.from_numpy(numpy.array(image)).unsqueeze(0).float() / 255


def to_rgb(image: Image.Image, background: Color, data: bytes) -> Image.Image:
    """Convert an image of any supported mode to sRGB on `background`.

    Args:
        image: the upright image.
        background: red, green, blue (0..255) in sRGB.
        data: the bytes of the image's file, which declare its colour space.
    """
    if image.mode.startswith("I;16"):
        image = _to_8_bit(image)
    if not image.has_transparency_data:
        plain = image if image.mode in ("L", "CMYK", "RGB") else image.convert("RGB")
        return to_srgb(plain, data).convert("RGB")
    image = image.convert("RGBA")
    colors = to_srgb(image.convert("RGB"), data)
    flat = Image.new("RGB", image.size, background)
    flat.paste(colors, mask=image.getchannel("A"))
    return flat


def _decode(
    picture: Example | Reference | ViewImage,
    background: Color,
    fitted: Callable[[Image.Image], Image.Image] = lambda whole: whole,
) -> Image.Image:
    """What `fitted` makes of the decoded image. Threads together hold few whole images at a time."""
    data = _read(picture)
    try:
        image = open_image(data)
        with room_for(image.width * image.height):
            image = ImageOps.exif_transpose(image)
            if isinstance(picture, Reference) and picture.is_inverted:
                image = _inverted(image)
            return fitted(to_rgb(image, background, data))
    except (ImageError, *DECODE_ERRORS) as error:
        raise UserError(f"{picture.path}: cannot be decoded: {error}") from error


def _read(picture: Example | Reference | ViewImage) -> bytes:
    try:
        data = read_image(picture.path)
    except ImageError as error:
        raise UserError(f"{picture.path}: cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != picture.content_hash:
        IMAGES.forget(picture.path)
        raise UserError(f"{picture.path}: the image has changed since the job started. Start the job again")
    return data


def _flip(image: Image.Image, picture: Example | Reference | ViewImage) -> Image.Image:
    if picture.flip_x:
        image = ImageOps.mirror(image)
    return ImageOps.flip(image) if picture.flip_y else image


def _with_colors(image: Image.Image, colors: Colors) -> Image.Image:
    """An RGB image with its hue moved, then its saturation, contrast and brightness changed."""
    if colors.hue:
        hue, *rest = image.convert("HSV").split()
        shift = round(colors.hue * 256)
        moved = Image.fromarray(((numpy.asarray(hue).astype(numpy.int32) + shift) % 256).astype(numpy.uint8))
        image = Image.merge("HSV", (moved, *rest)).convert("RGB")
    image = ImageEnhance.Color(image).enhance(colors.saturation)
    image = ImageEnhance.Contrast(image).enhance(colors.contrast)
    return ImageEnhance.Brightness(image).enhance(colors.brightness)


def _inverted(image: Image.Image) -> Image.Image:
    """The image with its opaque and its transparent pixels swapped."""
    image = image.convert("RGBA")
    image.putalpha(ImageOps.invert(image.getchannel("A")))
    return image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, which pillow's own conversion would clip. A transparent grey value stays so."""
    values = numpy.asarray(image).astype(numpy.uint32)  # [H, W]
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(numpy.uint8))
    grey.info |= {key: value for key, value in image.info.items() if key != "transparency"}
    if "transparency" not in image.info:
        return grey
    opaque = values != image.info["transparency"]
    grey.putalpha(Image.fromarray(opaque.astype(numpy.uint8) * 255))
    return grey
