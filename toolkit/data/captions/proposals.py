"""Captions that a model proposes: in a file of their own until someone accepts them.

`proposals.jsonl` has a line for each picture; the last one of a picture counts. A line that a kill has cut off does not
count, so that a job that is started again continues with that picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.data.captions.files import MAX_BYTES, CaptionFolder, read_caption
from toolkit.data.captions.texts import CaptionError
from toolkit.files import write_text

PROPOSALS_FILE = "proposals.jsonl"


@dataclass(frozen=True)
class Proposal:
    """A caption for a picture.

    Attributes:
        image: the picture, relative to the folder of pictures, with `/`.
        text: the caption; empty if it was dismissed.
        before: the caption that the picture had then; empty if none.
        key: of what it was made with; the same picture, model and instruction have the same.
        is_accepted: it was written, in place of `before`.
    """

    image: str
    text: str
    before: str
    key: str
    is_accepted: bool = False


@dataclass(frozen=True)
class Written:
    """The result of accepting proposals.

    Attributes:
        num_written: captions that were written.
        kept: pictures whose caption was changed since, and stays.
    """

    num_written: int
    kept: tuple[str, ...]


def read_proposals(path: Path) -> dict[str, Proposal]:
    """The proposals in a file, by picture; none if there is no file. Lines that are not proposals are skipped."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    found: dict[str, Proposal] = {}
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line)
            image, text, before, key = (str(entry[name]) for name in ("image", "text", "before", "key"))
            proposal = Proposal(image, text, before, key, is_accepted=entry.get("is_accepted") is True)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        found.pop(proposal.image, None)  # the order is that of the last lines
        found[proposal.image] = proposal
    return found


def append_proposals(path: Path, proposals: Iterable[Proposal]) -> None:
    """Add proposals in one write, and wait until they are on disk."""
    lines = b"".join(json.dumps(asdict(it), ensure_ascii=True).encode("ascii") + b"\n" for it in proposals)
    if not lines:
        return
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        is_cut = end > 0 and file.read(1) != b"\n"
        file.write((b"\n" if is_cut else b"") + lines)
        file.flush()
        os.fsync(file.fileno())


class CaptionFiles:
    """The caption files of the pictures in a folder.

    Args:
        folder: the folder of pictures.
        extension: of caption files, with its dot.
    """

    def __init__(self, folder: Path, extension: str) -> None:
        self.folder = folder
        self.extension = extension
        self._folders: dict[Path, CaptionFolder] = {}

    def path(self, image: Path) -> Path:
        """The caption file of a picture, there or not.

        Raises:
            CaptionError: there are several.
        """
        folder = self._folders.setdefault(image.parent, CaptionFolder(image.parent))
        return folder.find(image, self.extension) or image.with_suffix(self.extension)

    def text(self, image: Path) -> str:
        """The caption of a picture as it is now; empty if there is none.

        Raises:
            CaptionError: it cannot be read.
        """
        try:
            return read_caption(self.path(image))
        except FileNotFoundError:
            return ""

    def accept(self, proposals: Iterable[Proposal]) -> Written:
        """Write proposals next to their pictures. Captions that have changed since then are kept.

        Args:
            proposals: those to write; dismissed ones are skipped.
        """
        num_written, kept = 0, []
        for proposal in proposals:
            text = proposal.text.strip()
            image = self.folder / proposal.image
            if not text:
                continue
            try:
                now = self.text(image)
            except CaptionError:
                kept.append(proposal.image)
                continue
            if now == text:
                continue
            if now != proposal.before or not image.is_file() or len(text.encode()) > MAX_BYTES:
                kept.append(proposal.image)
                continue
            write_text(self.path(image), text)
            self._folders.pop(image.parent, None)
            num_written += 1
        return Written(num_written, tuple(kept))
