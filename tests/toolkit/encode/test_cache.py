"""The tensor cache."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from toolkit.data import Example
from toolkit.data.examples import Reference
from toolkit.encode.cache import TensorCache, embeddings_key, latents_key

TENSORS = {
    "latent": torch.arange(24.0).view(2, 3, 4).bfloat16(),
    "mask": torch.tensor([True, False]),
    "n": torch.tensor(3),
}


def assert_equal(got: dict[str, Tensor] | None, wanted: dict[str, Tensor]) -> None:
    assert got is not None and got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor)


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path / "cache")
    assert cache.get("latents_1") is None and not cache.has("latents_1")
    cache.put("latents_1", TENSORS)
    assert cache.has("latents_1")
    assert_equal(cache.get("latents_1"), TENSORS)


def test_another_process_finds_it(tmp_path: Path) -> None:
    TensorCache(tmp_path).put("a", TENSORS)
    assert_equal(TensorCache(tmp_path).get("a"), TENSORS)


def test_tensors_of_any_layout_are_kept(tmp_path: Path) -> None:
    base = torch.randn(4, 6, requires_grad=True)
    tensors = {"turned": base.t(), "part": base[:, 2], "empty": torch.zeros(0, 3), "again": base}
    TensorCache(tmp_path).put("a", tensors)
    assert_equal(TensorCache(tmp_path).get("a"), {name: tensor.detach() for name, tensor in tensors.items()})


def test_an_entry_keeps_the_given_facts_in_its_header(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.put("a", TENSORS, {"image": "cat.png"})
    with safe_open(cache.path("a"), framework="pt") as file:
        assert file.metadata()["image"] == "cat.png"
    assert cache.path("a") == tmp_path / "a.safetensors"


def damaged(data: bytes) -> list[bytes]:
    """Cut at many places, single bits flipped at many others."""
    chance = random.Random(0)
    cuts = [data[:length] for length in [0, 1, 7, 8, 9, len(data) // 2, len(data) - 1]]
    flips = []
    for place in [chance.randrange(len(data)) for _ in range(200)]:
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        flips.append(bytes(changed))
    return [*cuts, *flips, data + b"\0", b"\0" * len(data)]


def test_a_damaged_entry_is_never_given_out_but_removed_and_reported(tmp_path: Path) -> None:
    messages: list[str] = []
    cache = TensorCache(tmp_path, on_damage=messages.append)
    cache.put("a", TENSORS)
    whole = cache.path("a").read_bytes()
    for data in damaged(whole):
        cache.path("a").write_bytes(data)
        messages.clear()
        got = cache.get("a")
        if got is not None:  # a flipped bit in what the header says beside the tensors harms nobody
            assert_equal(got, TENSORS)
            continue
        assert not cache.path("a").exists()
        assert len(messages) == 1 and str(cache.path("a")) in messages[0]
    cache.put("a", TENSORS)
    assert cache.has("a")


def test_no_flipped_bit_in_a_tensor_goes_unseen(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.put("a", {"latent": torch.zeros(32, dtype=torch.uint8)})
    whole = cache.path("a").read_bytes()
    for place in range(1, 33):
        changed = bytearray(whole)
        changed[-place] ^= 16
        cache.path("a").write_bytes(changed)
        assert cache.get("a") is None


def test_an_entry_under_another_entrys_name_is_damage(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.put("a", TENSORS)
    cache.path("a").rename(cache.path("b"))
    assert not cache.has("b")


def test_concurrent_writers_and_readers_see_whole_entries(tmp_path: Path) -> None:
    tensors = {"latent": torch.randn(64, 64)}
    results: list[bool] = []

    def work() -> None:
        cache = TensorCache(tmp_path)
        for _ in range(10):
            cache.put("a", tensors)
            got = cache.get("a")
            results.append(got is not None and torch.equal(got["latent"], tensors["latent"]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40 and all(results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "verified.txt"]


@pytest.fixture
def example(make_example: Callable[..., Example]) -> Example:
    return make_example(Path("a.png"), (100, 64), content_hash="12ab")


def key(example: Example, **changes: Any) -> str:
    return latents_key(example, **{"vae_fingerprint": "v", "background": (0, 0, 0), "dtype": "bfloat16", **changes})


def test_latents_have_another_key_when_anything_that_shaped_them_differs(example: Example) -> None:
    keys = [
        key(example),
        key(replace(example, content_hash="34cd")),
        key(replace(example, fit=example.fit.cropped_at(0, 0))),
        key(replace(example, fit=replace(example.fit, resized=(90, 60)))),
        key(replace(example, fit=replace(example.fit, bucket=(64, 48)))),
        key(replace(example, flip_x=True)),
        key(replace(example, flip_y=True)),
        key(example, vae_fingerprint="w"),
        key(example, background=(0, 0, 1)),
        key(example, dtype="float32"),
    ]
    assert len(set(keys)) == len(keys)


def test_latents_have_the_same_key_when_only_words_or_names_differ(example: Example) -> None:
    other = replace(example, path=Path("b.png"), caption="other", loss_weight=2.0, is_reg=True, dataset_index=3)
    assert key(other) == key(example)


def test_embeddings_have_another_key_when_anything_that_shaped_them_differs() -> None:
    plain: dict[str, Any] = {"text_encoder_fingerprint": "t", "max_tokens": 512, "dtype": "bfloat16"}
    keys = [
        embeddings_key("a dog", **plain),
        embeddings_key("a cat", **plain),
        embeddings_key("a dog", **{**plain, "text_encoder_fingerprint": "u"}),
        embeddings_key("a dog", **{**plain, "max_tokens": 256}),
        embeddings_key("a dog", **{**plain, "dtype": "float32"}),
    ]
    assert len(set(keys)) == len(keys)
    assert embeddings_key("a dog", **plain) == keys[0]


def test_a_reference_shares_the_latents_of_an_image_that_looks_the_same(example: Example) -> None:
    reference = Reference(Path("r.png"), "12ab", example.fit, flip_x=False, flip_y=False, background=(0, 0, 0))
    plain: dict[str, Any] = {"vae_fingerprint": "v", "background": (0, 0, 0), "dtype": "bfloat16"}
    assert latents_key(reference, **plain) == key(example)
    smaller = replace(example.fit, resized=(90, 60))
    others = [replace(reference, content_hash="34cd"), replace(reference, fit=smaller), replace(reference, flip_x=True)]
    assert len({latents_key(other, **plain) for other in (reference, *others)}) == 4
