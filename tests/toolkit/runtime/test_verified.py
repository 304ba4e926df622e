"""Cache entries that are known to be whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from toolkit.encode.cache import TensorCache
from toolkit.runtime.verified import NAME, Verified

CONTENT = {"tensor": torch.arange(12.0)}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of entries that have been read."""
    found: list[str] = []
    get = TensorCache.get

    def counted(cache: TensorCache, key: str) -> dict[str, torch.Tensor] | None:
        found.append(key)
        return get(cache, key)

    monkeypatch.setattr(TensorCache, "get", counted)
    return found


def test_an_entry_that_has_not_changed_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    TensorCache(tmp_path).put("a", CONTENT)
    assert TensorCache(tmp_path).has("a") and not TensorCache(tmp_path).has("b")
    assert reads == ["b"]


def test_an_entry_from_elsewhere_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    TensorCache(tmp_path).put("a", CONTENT)
    (tmp_path / NAME).unlink()
    assert all(TensorCache(tmp_path).has("a") for _ in range(3)) and reads == ["a"]


def test_a_changed_entry_is_read_and_removed_if_it_is_damaged(tmp_path: Path, reads: list[str]) -> None:
    cache = TensorCache(tmp_path)
    cache.put("a", CONTENT)
    path, before = cache.path("a"), cache.path("a").stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    told: list[str] = []
    assert not TensorCache(tmp_path, on_damage=told.append).has("a")
    assert reads == ["a"] and len(told) == 1 and not path.exists()


def test_a_list_with_torn_or_foreign_lines_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        TensorCache(tmp_path).put(name, CONTENT)
    path = tmp_path / NAME
    path.write_text("x\n" + path.read_text()[:-5] + "\nb.safetensors 1 2 3\n")
    found = Verified(tmp_path)
    assert found.has(tmp_path / "a.safetensors") and not found.has(tmp_path / "b.safetensors")
    path.write_bytes(b"\xff\xfe")
    assert not Verified(tmp_path).has(tmp_path / "a.safetensors")


def test_a_list_that_repeats_itself_is_written_anew(tmp_path: Path) -> None:
    TensorCache(tmp_path).put("a", CONTENT)
    path = tmp_path / NAME
    line = path.read_text()
    path.write_text(line * 2000)
    assert Verified(tmp_path).has(tmp_path / "a.safetensors") and path.read_text() == line
