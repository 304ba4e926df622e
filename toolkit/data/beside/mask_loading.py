"""Loads the mask of an example at exactly the size, crop and flip of its image."""

from __future__ import annotations

import hashlib

from PIL import Image, ImageOps

from toolkit.data.examples import LossMask, MaskFile
from toolkit.data.image_files import DECODE_ERRORS, ImageError, open_image
from toolkit.errors import UserError

CELL_PX = 8
"""Side of the square of pixels that one value of a loaded mask stands for. Cells of latents are made of whole ones."""


def load_mask(mask: LossMask) -> Image.Image:
    """The weight of each cell of a training image, as 8-bit grey, `CELL_PX` times smaller than its bucket.

    Each value is the mean over the area of its cell.

    Raises:
        UserError: the file cannot be read, has changed since the scan, or nothing of it is within the crop.
    """
    image = _open(mask.file).resize(mask.fit.resized, Image.Resampling.BOX).crop(mask.fit.crop_box)
    if mask.flip_x:
        image = ImageOps.mirror(image)
    if mask.flip_y:
        image = ImageOps.flip(image)
    return image.resize((image.width // CELL_PX, image.height // CELL_PX), Image.Resampling.BOX)


def shows_nothing(file: MaskFile) -> bool:
    """Whether no pixel of a mask counts.

    Raises:
        UserError: see `load_mask`.
    """
    return bool(_open(file).getextrema()[1] == 0)


def _open(file: MaskFile) -> Image.Image:
    """The mask as 8-bit grey, white where the image counts. Transparent parts of a mask are black."""
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise UserError(f"{file.path}: cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != file.content_hash:
        raise UserError(f"{file.path}: the mask has changed since the job started. Start the job again")
    try:
        image = ImageOps.exif_transpose(open_image(data))
        if image.mode.startswith("I;16"):
            image = image.point(lambda value: value / 257, "L")
        if file.is_alpha:
            grey = image.convert("RGBA").getchannel("A")
        elif image.has_transparency_data:
            layers = image.convert("RGBA")
            grey = Image.composite(layers.convert("L"), Image.new("L", image.size), layers.getchannel("A"))
        else:
            grey = image.convert("L")
    except (ImageError, *DECODE_ERRORS) as error:
        raise UserError(f"{file.path}: cannot be decoded: {error}") from error
    return ImageOps.invert(grey) if file.is_inverted else grey
