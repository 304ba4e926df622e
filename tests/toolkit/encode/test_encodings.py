"""toolkit.encode.encodings"""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.encode import storage
from toolkit.encode.encodings import Encodings
from toolkit.errors import UserError


def _ones() -> Tensor:
    return torch.ones(10, 100)


def test_what_does_not_fit_into_memory_goes_to_the_overflow_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MEMORY_LIMIT_BYTES", 10_000)
    told: list[str] = []
    overflow = tmp_path / "overflow"
    encodings = Encodings(told.append, overflow=overflow)
    for index in range(5):
        assert encodings.add(f"key{index}", partial(torch.mul, _ones(), index), folder=None)
        assert not encodings.add(f"key{index}", _ones, folder=None)
    encodings.settle()
    assert sorted(path.stem for path in overflow.iterdir()) == ["key2", "key3", "key4"]
    assert all(torch.equal(encodings[f"key{index}"], _ones() * index) for index in range(5))
    assert len(told) == 1
    assert str(overflow) in told[0]
    again = Encodings(told.append, overflow=overflow)
    assert not again.add("key3", _ones, folder=None), "a run that goes on finds it there"


def test_packed_things_take_less_room_on_disk_and_come_back_exactly(tmp_path: Path) -> None:
    encodings = Encodings(print, overflow=tmp_path / "overflow")
    tensor = torch.randn(64, 256).bfloat16()
    encodings.add("memory", lambda: tensor, folder=None, is_packed=True)
    encodings.add("disk", lambda: tensor, folder=tmp_path / "cache", is_packed=True)
    assert torch.equal(encodings["memory"], tensor)
    assert torch.equal(encodings["disk"], tensor)
    assert next((tmp_path / "cache").iterdir()).stat().st_size < 0.75 * tensor.nbytes


def test_a_file_of_the_cache_is_read_once_and_kept_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MEMORY_LIMIT_BYTES", 5_000)
    told: list[str] = []
    encodings, cache = Encodings(told.append, overflow=tmp_path / "overflow"), tmp_path / "cache"
    for key in ("first", "second"):
        encodings.add(key, _ones, folder=cache, is_packed=True)
        assert torch.equal(encodings[key], _ones())
        (cache / f"{key}.safetensors").unlink()
    assert torch.equal(encodings["first"], _ones())
    encodings.add("large", lambda: torch.randn(20, 100), folder=cache)
    assert encodings["large"].shape == (20, 100)
    (cache / "large.safetensors").unlink()
    with pytest.raises(UserError, match="the cache entry is gone"):
        encodings["large"]
    assert told == [], "what is on disk anyway is no overflow"
