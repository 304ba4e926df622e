"""Datasets as the page shows them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.buckets import DIVISOR_PX, fit_to_bucket
from toolkit.data.captions.files import MAX_BYTES
from toolkit.data.image_files import DECODE_ERRORS, MAX_FILE_BYTES, is_on_its_side
from ui.server.datasets.album import Album, Picture, picture_id
from ui.server.datasets.companions import Companions
from ui.server.datasets.library import OWN, Dataset
from ui.server.datasets.names import CAPTION_EXTENSION, folded
from ui.server.datasets.undo import Journal
from ui.server.datasets.upload import LARGEST_ZIP, MOST_FILES
from ui.server.schemas import Badge, DatasetDetail, DatasetRow, PictureRow, Pictures, Selection, UploadLimits
from ui.server.words import clean

_MOST_SIZES = 50_000
NO_CAPTION = "caption missing"
Badges = Mapping[str, Sequence[Badge]]


@dataclass(frozen=True)
class Findings:
    """What the doctor says about the pictures of a dataset, and what belongs to them.

    Attributes:
        badges: by name of a picture.
        resolution: that it has looked for; a usual one if it has not looked.
        companions: finds their references and the like.
    """

    badges: Badges
    resolution: int
    companions: Companions


_sizes: OrderedDict[tuple[str, object], tuple[int, int] | None] = OrderedDict()
_lock = threading.Lock()


def row_of(dataset: Dataset) -> DatasetRow:
    """A dataset as a row of the list."""
    cover = dataset.contents.cover
    return DatasetRow(
        id=dataset.id,
        name=clean(dataset.folder.name),
        path=clean(str(dataset.folder)),
        num_pictures=dataset.contents.num_pictures,
        num_captioned=dataset.contents.num_captioned,
        cover=None if cover is None else f"{dataset.id}-{picture_id(cover)}",
    )


def detail_of(dataset: Dataset, album: Album, companions: Companions) -> DatasetDetail:
    """A dataset, read now."""
    pictures = list(album.pictures().values())
    row = row_of(dataset).model_copy(
        update={
            "num_pictures": len(pictures),
            "num_captioned": sum(map(album.is_captioned, pictures)),
            "cover": f"{dataset.id}-{pictures[0].id}" if pictures else None,
        }
    )
    limits = UploadLimits(
        picture_bytes=MAX_FILE_BYTES, caption_bytes=MAX_BYTES, zip_bytes=LARGEST_ZIP, num_files=MOST_FILES
    )
    return DatasetDetail(
        **row.model_dump(),
        num_bytes=sum(picture.num_bytes for picture in pictures),
        undo=Journal(dataset.folder / OWN).newest(),
        limits=limits,
        extensions=sorted({*IMAGE_EXTENSIONS, CAPTION_EXTENSION}),
        companions=companions.shown(dataset, album),
    )


def chosen(album: Album, badges: Badges, selection: Selection) -> list[Picture]:
    """The pictures that a selection asks for, in the order of their names."""
    wanted = folded(selection.q.strip())
    ids = None if selection.files is None else {file.rpartition("-")[2] for file in selection.files}
    found = []
    for picture in album.pictures().values():
        if ids is not None and picture.id not in ids:
            continue
        if selection.kind == NO_CAPTION:
            if album.caption(picture).text:
                continue
        elif selection.kind and all(badge.kind != selection.kind for badge in badges.get(picture.name, ())):
            continue
        if wanted and wanted not in folded(picture.name) and wanted not in folded(album.caption(picture).text):
            continue
        found.append(picture)
    return found


def page_of(dataset: Dataset, album: Album, findings: Findings, pictures: Sequence[Picture]) -> list[PictureRow]:
    """Some pictures with their captions and what the doctor says about them."""
    rows = []
    companions = findings.companions.of(dataset, album, pictures)
    for picture in pictures:
        caption = album.caption(picture)
        size = _size_of(dataset.folder / picture.name, picture)
        fit = fit_to_bucket(*size, resolution=findings.resolution, divisor=DIVISOR_PX) if size else None
        rows.append(
            PictureRow(
                file=f"{dataset.id}-{picture.id}",
                name=clean(picture.name),
                width=size[0] if size else None,
                height=size[1] if size else None,
                bucket=list(fit.bucket) if fit else None,
                crop=list(fit.crop_shares) if fit else None,
                num_bytes=picture.num_bytes,
                text=clean(caption.text),
                tag=caption.tag,
                trouble=clean(caption.trouble),
                is_listed=caption.is_listed,
                badges=list(findings.badges.get(picture.name, ())),
                companions=companions[picture.name],
            )
        )
    return rows


def pictures_of(
    dataset: Dataset, album: Album, findings: Findings, selection: Selection, *, offset: int, limit: int
) -> Pictures:
    """`GET /api/datasets/{id}/files`."""
    found = chosen(album, findings.badges, selection)
    rows = page_of(dataset, album, findings, found[offset : offset + limit])
    return Pictures(total=len(found), offset=offset, pictures=rows)


def _size_of(path: Path, picture: Picture) -> tuple[int, int] | None:
    """Width and height of the upright picture, from its first bytes; None if they tell neither."""
    key = (str(path), picture.stamp)
    with _lock:
        if key in _sizes:
            return _sizes[key]
    size = None
    try:
        with Image.open(path) as image:
            size = (image.height, image.width) if is_on_its_side(image) else image.size
    except (*DECODE_ERRORS, Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    with _lock:
        _sizes[key] = size
        while len(_sizes) > _MOST_SIZES:
            _sizes.popitem(last=False)
    return size
