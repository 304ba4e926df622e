"""What is fetched from another machine: everything in an output folder that a user wants to see or keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from toolkit.encode.storage import LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, VIEW_CACHE
from toolkit.files import whole_file
from toolkit.output.bundles import STATE_FOLDER

_STAYS = {STATE_FOLDER, "superseded", LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, VIEW_CACHE}


def fetch(
    folders: Mapping[str, Path], *, files: Callable[[str], Iterable[str]], read: Callable[[str, IO[bytes]], Any]
) -> Iterator[str]:
    """Bring weights, samples and logs into the output folders of this machine, and say where they are.

    A folder that a run of this machine resumes from is left alone: what comes back is put beside it.

    Args:
        folders: names of the output folders there, each with the folder here; see `Parcel.folders`.
        files: lists all files of an output folder there, by their path, which begins with the folder's name.
        read: writes the content of such a file into an open one.
    """
    for name, asked in folders.items():
        is_used = (asked / STATE_FOLDER).exists()
        folder = asked.with_name(f"{asked.name}_modal") if is_used else asked
        count = 0
        for path in files(name):
            inside = PurePosixPath(path.lstrip("/")).relative_to(name)
            if is_fetched(inside):
                with whole_file(folder / inside) as temporary, temporary.open("wb") as file:
                    read(path, file)
                count += 1
        why = f", since a run on this machine uses {asked}" if is_used and count else ""
        yield f"fetched: {count} files into {folder}{why}" if count else f"{name}: nothing has been written yet"


def is_fetched(path: PurePosixPath) -> bool:
    """Whether a file is fetched: weights, samples, records and logs are; what only a resumed run needs is not.

    Args:
        path: path of the file in the output folder.
    """
    return path.parts[0] not in _STAYS and not any(part.startswith(".") for part in path.parts)
