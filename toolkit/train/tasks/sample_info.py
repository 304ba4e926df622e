"""What a sample picture says about itself: prompt, seed, step, and the settings of the training that it shows.

A PNG holds it as JSON in its text `Comment`, a JPEG or WebP in the `ImageDescription` of its EXIF; and in the form that
other programs read (`parameters_text`) in the text `parameters` or in the `UserComment`. The pixels are the same as
without it, and two drawings of one step say the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from toolkit.config import SampleItem
from toolkit.train.tasks.parameters_text import parameters_text

_PNG_KEY, _PARAMETERS = "Comment", "parameters"
# EXIF names the character set of a comment in its first eight bytes. Earlier versions wrote the JSON in ASCII.
_ASCII, _UNICODE = b"ASCII\0\0\0", b"UNICODE\0"
_MOST_BYTES = 60_000  # the EXIF of a JPEG is at most 64 KiB
_OF_THE_ITEM = ("prompt", "neg", "seed", "width", "height", "guidance_scale", "sample_steps", "network_multiplier")
_OF_THE_JOB = (
    "ss_output_name",
    "ss_base_model_version",
    "modelspec.trigger_phrase",
    "base_model",
    "network",
    "training_settings",
    "software",
)


def sample_info(
    item: SampleItem, step: int, metadata: Mapping[str, str], redact: Callable[[str], str] = str
) -> dict[str, Any]:
    """What to write into a picture.

    Args:
        item: the sample that was drawn.
        step: number of completed steps.
        metadata: what a file saved at this step would say about the training, see `file_metadata`.
        redact: removes secrets from a text.
    """
    return item_info(item, redact) | {"step": step} | {key: metadata[key] for key in _OF_THE_JOB if key in metadata}


def item_info(item: SampleItem, redact: Callable[[str], str] = str) -> dict[str, Any]:
    """The part of a picture's header that says what was asked for."""
    values = {key: getattr(item, key) for key in _OF_THE_ITEM}
    return {key: redact(value) if isinstance(value, str) else value for key, value in values.items() if value != ""}


def save_options(file_format: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Image.save` that write the information into a picture; none if it is too long for that.

    Args:
        file_format: `JPEG`, `PNG` or `WEBP`.
        info: plain JSON.
    """
    text, parameters = json.dumps(dict(info)), parameters_text(info)  # the first is ASCII
    if not info or len(text) + 2 * len(parameters) > _MOST_BYTES:
        return {}
    if file_format == "PNG":
        chunks = PngInfo()
        chunks.add_text(_PNG_KEY, text)
        chunks.add_itxt(_PARAMETERS, parameters)
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = text
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + parameters.encode("utf-16-be")
    return {"exif": exif}


def read_info(image: Image.Image) -> dict[str, Any]:
    """What was written into a picture, by this trainer or in its way; empty if nothing."""
    exif = image.getexif()
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    texts = [image.info.get(_PNG_KEY), exif.get(ExifTags.Base.ImageDescription), comment]
    found: dict[str, Any] = {}
    for text in texts:
        if isinstance(text, bytes):
            text = text.removeprefix(_ASCII).decode("utf-8", "replace")
        try:
            value = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found |= value
    return found
