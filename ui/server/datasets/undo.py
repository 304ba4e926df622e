"""The former texts of captions that were changed in bulk, kept in the dataset until enough others were."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.files import delete_file, write_json
from ui.server.refusal import Refusal
from ui.server.schemas import UndoStep

_FOLDER = "undo"
_KEPT = 20


@dataclass(frozen=True)
class Former:
    """A caption before and after a change.

    Attributes:
        name: of the picture.
        before: the text; None where there was no caption file.
        tag: of the caption before.
        after: tag of the caption that was written.
    """

    name: str
    before: str | None
    tag: str
    after: str


class Journal:
    """Files of a dataset's own folder, one for each change, the newest of which can be undone first."""

    def __init__(self, own: Path) -> None:
        self.folder = own / _FOLDER

    def newest(self) -> UndoStep | None:
        """The last change; None if there is none to undo."""
        for path in reversed(self._files()):
            found = self._read(path)
            if found is not None:
                return _step(path, found)
        return None

    def begin(self, what: str, texts: list[Former]) -> UndoStep:
        """Keep the former texts; called before any of them is changed, so that a power cut loses none."""
        path = self.folder / f"{time.time_ns():020d}.json"
        write_json(path, {"what": what, "time": time.time(), "texts": [asdict(text) for text in texts]})
        for old in self._files()[:-_KEPT]:
            delete_file(old)
        found = self._read(path)
        assert found is not None, f"{path} was just written"
        return _step(path, found)

    def texts(self, id_: str) -> list[Former]:
        """The former texts of the last change.

        Raises:
            Refusal: it is not the last one, or was undone.
        """
        newest = self.newest()
        if newest is None or newest.id != id_:
            raise Refusal(409, "This change was already undone, or another one was made since. Reload the page.")
        found = self._read(self.folder / f"{id_}.json")
        assert found is not None, "it was just read"
        return [Former(**text) for text in found["texts"]]

    def end(self, id_: str) -> None:
        """Forget a change that was undone."""
        delete_file(self.folder / f"{id_}.json")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))

    def _read(self, path: Path) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            found = json.loads(path.read_text(encoding="utf-8"))
            [Former(**text) for text in found["texts"]]
            return dict(found) if isinstance(found["time"], float) and isinstance(found["what"], str) else None
        return None


def _step(path: Path, found: dict[str, Any]) -> UndoStep:
    return UndoStep(id=path.stem, what=found["what"], time=found["time"], num_captions=len(found["texts"]))
