"""What the tests of this folder share: who starts ranks, and a model of next to no size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ranks.launcher import Launcher
from tests.reliability.smallest_model import write_smallest_model


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    with Launcher() as launcher:
        yield launcher


@pytest.fixture(scope="session")
def smallest_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smallest_model(tmp_path_factory.mktemp("smallest") / "model")
