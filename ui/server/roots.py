"""The folders that the page may read and write in, named when the server is started and never by a request."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.config.reading.parse import shortened
from ui.server.refusal import Refusal

TRASH = ".trash"
_LONGEST = 300  # characters of a path that are shown
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


class Roots:
    """The folders that job texts may name paths in."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.folders = _outermost(folders)

    def root_of(self, path: Path) -> Path | None:
        """The root that a path, links on its way followed, lies in; None if it leads out of all of them."""
        try:
            real = Path(os.path.realpath(path))
        except (OSError, ValueError):  # a zero byte, a name that is too long
            return None
        return next((root for root in self.folders if real == root or real.is_relative_to(root)), None)

    def holds(self, path: Path) -> bool:
        """Whether a path lies in a root, wherever its links lead."""
        return self.root_of(path) is not None

    def require(self, path: Path, where: str = "") -> Path:
        """The real path.

        Raises:
            Refusal: it leads out of every root.
        """
        root = self.root_of(path)
        if root is None:
            raise Refusal(422, self.refusal_of(path), where)
        real = Path(os.path.realpath(path))
        for part in real.relative_to(root).parts:
            if is_reserved(part):
                raise Refusal(422, f'"{part}" is a reserved name on some systems. Choose another one.', where)
        return real

    def refusal_of(self, path: Path) -> str:
        """What to say about a path that leads out."""
        folder = path if path.is_absolute() else Path.cwd() / path
        named = ", ".join(map(str, self.folders))
        return (
            f"{shortened(str(path), _LONGEST)} is outside the folders this server may use ({named}). "
            f"To allow it, start the server with --root {shortened(str(folder.parent), _LONGEST)}."
        )


def is_reserved(name: str) -> bool:
    """Whether a name stands for a device on Windows, whatever its extension."""
    return name.rstrip(" .").partition(".")[0].lower() in _RESERVED


def _outermost(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Real paths, without those that lie in another."""
    real = list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders))
    return tuple(it for it in real if not any(it != other and it.is_relative_to(other) for other in real))
