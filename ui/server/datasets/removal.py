"""Pictures that are taken out of a dataset: moved to the trash of its root, with their captions."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.files import move
from ui.server.actions.trash import place_in_trash
from ui.server.datasets.album import Album
from ui.server.datasets.library import Dataset
from ui.server.schemas import Removed
from ui.server.words import clean


def remove(dataset: Dataset, album: Album, files: Sequence[str]) -> Removed:
    """Move pictures to the trash. A caption that another picture shares stays.

    Args:
        dataset, album: which holds them.
        files: their ids.

    Raises:
        Refusal: one of them is gone; nothing was moved.
    """
    with album.lock:
        pictures = [album.get(file.rpartition("-")[2]) for file in dict.fromkeys(files)]
        names = {picture.name for picture in pictures}
        shared = {it.caption_name for it in album.pictures().values() if it.name not in names}
        place = place_in_trash(dataset.root, f"pictures of {dataset.folder.name}")
        try:
            for picture in pictures:
                move(dataset.folder / picture.name, place / picture.name)
                caption = album.caption_path(picture)
                if caption is not None and caption.name not in shared and caption.exists():
                    move(caption, place / caption.name)
        finally:
            album.forget()
    return Removed(num_pictures=len(pictures), place=clean(str(place)))
