"""toolkit.encode.pictures"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tiny_model, write_dataset
from toolkit.config import DatasetConfig
from toolkit.data import scan_datasets
from toolkit.data.examples import Example, Reference
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.errors import UserError

BLACK = (0, 0, 0)
Picture = Example | Reference


def _examples(folder: Path) -> tuple[Example, ...]:
    dataset = DatasetConfig.model_validate({"folder_path": folder, "resolution": 32, "num_repeats": 2})
    return scan_datasets([dataset], divisor_px=16, trigger_word=None).examples


def _counted(decoded: Counter[str], load: Callable[[Picture], torch.Tensor], picture: Picture) -> torch.Tensor:
    decoded[picture.content_hash] += 1
    return load(picture)


def test_images_decoded_ahead_get_the_same_latents_as_alone_and_each_is_decoded_once(tmp_path: Path) -> None:
    examples, model = _examples(write_dataset(tmp_path / "images", count=7)), tiny_model()
    found: list[dict[str, torch.Tensor]] = []
    for name in ("alone", "ahead"):
        cache = tmp_path / name
        encodings = Encodings(print, overflow=tmp_path / "overflow")
        images = ImageEncoder(model, encodings, fingerprint="vae", backgrounds=[BLACK])
        decoded: Counter[str] = Counter()
        images._pixels.load = partial(_counted, decoded, images._pixels.load)
        if name == "ahead":
            images.expect([(example, cache) for example in examples])
        assert sum(images.add(example, folder=cache) for example in examples) == 7
        encodings.settle()
        assert len(decoded) == 7 and set(decoded.values()) == {1}
        found.append({path.name: load_file(path)["tensor"] for path in cache.glob("*.safetensors")})
    alone, ahead = found
    assert len(alone) == 7 and alone.keys() == ahead.keys()
    assert all(torch.equal(alone[name], ahead[name]) for name in alone)


def test_nothing_is_decoded_where_all_is_cached(tmp_path: Path) -> None:
    examples, model = _examples(write_dataset(tmp_path / "images")), tiny_model()
    for is_first in (True, False):
        encodings = Encodings(print, overflow=tmp_path / "overflow")
        images = ImageEncoder(model, encodings, fingerprint="vae", backgrounds=[BLACK])
        if not is_first:
            for path in (tmp_path / "images").glob("*.png"):
                path.unlink()
        images.expect([(example, tmp_path / "cache") for example in examples])
        assert [images.add(example, folder=tmp_path / "cache") for example in examples].count(True) == 4 * is_first
        encodings.settle()
        assert torch.equal(images[examples[0]], images[examples[0]])


def test_an_image_that_cannot_be_read_is_told_when_its_turn_comes(tmp_path: Path) -> None:
    examples = _examples(write_dataset(tmp_path / "images", count=6))
    examples[4].path.write_bytes(b"changed")
    images = ImageEncoder(tiny_model(), Encodings(print, overflow=tmp_path), fingerprint="vae", backgrounds=[BLACK])
    images.expect([(example, None) for example in examples])
    for example in examples[:4]:
        images.add(example, folder=None)
    with pytest.raises(UserError, match=r"2\.png: the image has changed"):
        images.add(examples[4], folder=None)
    images.free()
