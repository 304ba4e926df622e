from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_flux import KINDS, make_tiny_flux

Sections = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """The `model` section of a tiny model of each kind, in diffusers layout."""
    root: Path = tmp_path_factory.mktemp("tiny_flux")
    return {kind: make_tiny_flux(root / kind, kind) for kind in KINDS}
