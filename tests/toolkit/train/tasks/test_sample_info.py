"""toolkit.train.tasks.sample_info"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ExifTags, Image, ImageChops

from toolkit.config import SampleItem
from toolkit.train.tasks.sample_info import item_info, read_info, sample_info
from toolkit.train.tasks.sampling import save_image

ITEM = SampleItem("ein Fuchs, 狐, token sk-123", "", 64, 32, 7, 4.0, 20, 1.0)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_a_picture_says_how_it_was_drawn_and_its_pixels_stay(tmp_path: Path, extension: str) -> None:
    image = Image.effect_noise((64, 32), 80).convert("RGB")
    info = sample_info(ITEM, 300, {"ss_base_model_version": "x", "note": "mine"}, lambda text: text.replace("123", "*"))
    bare, told = tmp_path / f"bare.{extension}", tmp_path / f"told.{extension}"
    save_image(image, bare)
    save_image(image, told, info)
    with Image.open(bare) as one, Image.open(told) as other:
        assert ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None
        assert read_info(one) == {}
        found = read_info(other)
    assert found == info
    assert (found["prompt"], found["seed"], found["step"]) == ("ein Fuchs, 狐, token sk-*", 7, 300)
    assert found["ss_base_model_version"] == "x" and "note" not in found and "neg" not in found


def test_what_is_too_long_for_a_picture_is_left_out(tmp_path: Path) -> None:
    save_image(Image.new("RGB", (8, 8)), tmp_path / "a.jpg", {"prompt": "x" * 70_000})
    with Image.open(tmp_path / "a.jpg") as image:
        assert read_info(image) == {}


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_other_programs_read_how_a_picture_was_drawn(tmp_path: Path, extension: str) -> None:
    item = SampleItem("ein Fuchs, 狐", "blurry", 64, 32, 7, 4.0, 20, 1.0)
    info = item_info(item) | {
        "base_model": '{"name": "owner/model"}',
        "loras": [{"name": "style", "weight": 0.5, "hash": "0123456789ab"}],
    }
    save_image(Image.new("RGB", (64, 32)), tmp_path / f"a.{extension}", info)
    with Image.open(tmp_path / f"a.{extension}") as image:
        if extension == "png":
            text = image.info["parameters"]
        else:
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
            assert comment.startswith(b"UNICODE\0")
            text = comment[8:].decode("utf-16-be")
    assert text.splitlines() == [
        "ein Fuchs, 狐 <lora:style:0.5>",
        "Negative prompt: blurry",
        "Steps: 20, Sampler: Euler, CFG scale: 4.0, Seed: 7, Size: 64x32, Model: model, "
        'Lora hashes: "style: 0123456789ab"',
    ]
