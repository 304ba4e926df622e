"""toolkit.runtime.allocator"""

from __future__ import annotations

import pytest

from toolkit.runtime.allocator import SETTING, grow_segments


def test_torch_is_asked_to_grow_its_pieces_of_card_memory() -> None:
    environment: dict[str, str] = {}
    grow_segments(environment, "linux")
    assert environment == {"PYTORCH_ALLOC_CONF": SETTING}


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_has_set_stays(name: str) -> None:
    environment = {name: "max_split_size_mb:128"}
    grow_segments(environment, "linux")
    assert environment == {name: "max_split_size_mb:128"}


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_nothing_is_set_where_torch_cannot_do_it(platform: str) -> None:
    environment: dict[str, str] = {}
    grow_segments(environment, platform)
    assert environment == {}
