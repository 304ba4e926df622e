"""What comes back from an output folder on another machine: everything that a user looks at or takes away."""

from __future__ import annotations

from pathlib import PurePosixPath

from toolkit.encode.storage import LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, VIEW_CACHE

_STAYS = {"state", "superseded", LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, VIEW_CACHE}


def is_fetched(path: PurePosixPath) -> bool:
    """Whether a file comes back: weights, samples, records and logs do; what only a resumed run needs does not.

    Args:
        path: path of the file in the output folder.
    """
    return path.parts[0] not in _STAYS and not any(part.startswith(".") for part in path.parts)
