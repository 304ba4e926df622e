"""toolkit/encode/encoders.py"""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model
from toolkit.encode import encoders
from toolkit.encode.encoders import Encodings, PromptEncoder


def _ones() -> Tensor:
    return torch.ones(10, 100)


def test_what_does_not_fit_into_memory_goes_to_the_overflow_folder_until_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "MEMORY_LIMIT_BYTES", 10_000)
    told: list[str] = []
    overflow = tmp_path / "overflow"
    encodings = Encodings(told.append, overflow=overflow)
    for index in range(5):
        assert encodings.add(f"key{index}", partial(torch.mul, _ones(), index), folder=None)
        assert not encodings.add(f"key{index}", _ones, folder=None)
    assert sorted(path.stem for path in overflow.iterdir()) == ["key2", "key3", "key4"]
    assert all(torch.equal(encodings[f"key{index}"], _ones() * index) for index in range(5))
    assert len(told) == 1
    assert str(overflow) in told[0]
    again = Encodings(told.append, overflow=overflow)
    assert not again.add("key3", _ones, folder=None), "a run that goes on finds it there"
    encodings.remove_overflow()
    assert not overflow.exists()


def test_packed_things_take_less_memory_and_come_back_exactly(tmp_path: Path) -> None:
    encodings = Encodings(print, overflow=tmp_path / "overflow")
    tensor = torch.randn(64, 256).bfloat16()
    encodings.add("memory", lambda: tensor, folder=None, is_packed=True)
    encodings.add("disk", lambda: tensor, folder=tmp_path / "cache", is_packed=True)
    assert torch.equal(encodings["memory"], tensor)
    assert torch.equal(encodings["disk"], tensor)
    assert next((tmp_path / "cache").iterdir()).stat().st_size < 0.75 * tensor.nbytes


def test_equal_captions_are_encoded_and_kept_once_and_a_long_one_is_reported_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    prompts = PromptEncoder(
        tiny_model(), Encodings(warnings.append, overflow=tmp_path / "overflow"), warn=warnings.append
    )
    long = "a red circle " * 20
    texts = ["a red circle", long, "a red circle", long]
    assert prompts.add(texts, folder=tmp_path / "cache") == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert prompts.add(texts, folder=None) == 0
    assert len(warnings) == 1
    assert "it is cut between" in warnings[0]
    assert prompts[long].shape == (48, 192)
