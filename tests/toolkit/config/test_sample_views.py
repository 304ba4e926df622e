"""Which images adapters see when samples are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tests.tiny import write_dataset, write_job
from toolkit.config import AdapterConfig, load_job
from toolkit.config.sample import SampleConfig, with_views


def _adapter(kind: str, *test_images: Path) -> AdapterConfig:
    options: dict[str, Any] = {"type": kind, "image_encoder_path": "owner/siglip", "test_img_path": list(test_images)}
    return AdapterConfig.model_validate(options if kind != "mean_flow" else {"type": kind})


def test_the_first_image_of_a_sample_is_for_adapters_and_further_ones_are_references() -> None:
    one, two = Path("one.png"), Path("two.png")
    items = SampleConfig.model_validate({"samples": [{"prompt": "a", "ctrl_img": one, "ctrl_img_2": two}]}).items()
    (item,) = with_views(items, [_adapter("mean_flow"), _adapter("ip"), _adapter("redux")])
    assert item.views == ((1, one), (2, one))
    assert item.references == (two,)
    assert with_views(items, [_adapter("mean_flow")]) == items
    assert with_views(items, []) == items


def test_samples_without_an_image_get_the_test_images_in_turn(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="PNG")
    more = tmp_path / "more.webp"
    items = SampleConfig.model_validate({"samples": ["1", "2", "3", "4"]}).items()
    found = with_views(items, [_adapter("ip", tmp_path, more), _adapter("redux")])
    names = [[path.name for _, path in item.views] for item in found]
    assert names == [["a.jpg"], ["b.png"], ["more.webp"], ["a.jpg"]]
    assert all(item.references == () for item in found)


def test_without_any_image_adapters_are_off() -> None:
    items = SampleConfig.model_validate({"samples": ["1"]}).items()
    assert with_views(items, [_adapter("ip")])[0].views == ()


def test_samples_in_which_an_adapter_sees_nothing_are_mentioned(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(image)
    adapter = {"type": "redux", "image_encoder_path": "owner/siglip"}
    dataset = {"folder_path": str(write_dataset(tmp_path / "images")), "clip_image_from_same_folder": True}
    found = {}
    for name, own, test_images in (("none", [], []), ("own", [str(image)], []), ("test", [], [str(image)])):
        samples = [{"prompt": "a", **({"ctrl_img": path} if path else {})} for path in own or [""]]
        job = write_job(
            tmp_path,
            name=name,
            adapter={**adapter, **({"test_img_path": test_images} if test_images else {})},
            datasets=[{**dataset, "resolution": 32}],
            sample={"samples": samples},
            train={"disable_sampling": False},
        )
        found[name] = "\n".join(load_job(job).notices)
    assert "none of the samples has an image for the `redux` adapter" in found["none"]
    assert "none of the samples" not in found["own"] + found["test"]
