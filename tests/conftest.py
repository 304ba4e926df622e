"""What holds for every test: its tier, no network, no compiler, and GPU tests only where there is a card."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests import tiers
from tests.measuring import Measuring
from toolkit.runtime.threads import share_cores

share_cores()
_CACHE = "trainer-cache-"  # what runs keep for the next start: one for all workers
_SHARES_CACHE = "PYTEST_XDIST_WORKER" in os.environ and _CACHE in os.environ.get("XDG_CACHE_HOME", "")
if not _SHARES_CACHE:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix=_CACHE)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["CXX"] = "no-compiler-in-tests"  # nothing is built into site-packages, or waits for one who builds there
os.environ.pop("SEED", None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes are started that would compile the tree each
sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--arch", action="append", help="run tests/contract for this model only; repeatable")
    parser.addoption("--write-tiers", action="store_true", help="write anew which of the tests that run are slow")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.write_tiers or _is_quick(config):
        measuring = Measuring(config.option.write_tiers)
        config.pluginmanager.register(measuring)
        if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
            measuring.watch()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or triton complains about what was not collected
    if not _SHARES_CACHE:
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if _is_quick(config) and tiers.is_slow(collection_path) else None


def _is_quick(config: pytest.Config) -> bool:
    return config.option.markexpr == "not slow"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tiers.mark(items)
    long_files = tiers.long_files()
    items.sort(key=lambda item: item.path not in long_files)  # one that starts last leaves the other cores idle
    needing_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needing_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA card, and this machine has none"))


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Garbage collections, of which a run makes several, pass over what imports and earlier modules left.

    Without it, what thousands of tests leave makes the last ones three times as slow as alone.
    """
    gc.collect()
    gc.freeze()
