"""Small copies of pictures, for pages that show many."""

from __future__ import annotations

import io
from pathlib import Path

from toolkit.errors import UserError

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF")
MOST_PIXELS = 40_000_000  # decoded they take 160 MB at most; a PNG of 1 MB may claim far more


def shrunk(path: Path, size_px: int, *, quality: int = 80) -> bytes:
    """A picture as WebP, its sides at most this long.

    Args:
        path: a picture in one of the formats that are trained on.
        size_px: of the longer side.
        quality: 0 to 100.

    Raises:
        UserError: it is none that can be shown small.
    """
    from PIL import Image, ImageOps  # not needed until someone looks at a picture

    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.draft("RGB", (size_px, size_px))
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{path.name} has too many pixels for a preview. Download it.")
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((size_px, size_px))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path.name} can't be shown: {type(error).__name__}.") from error
    content = io.BytesIO()
    small.save(content, format="WEBP", quality=quality, method=2)
    return content.getvalue()
