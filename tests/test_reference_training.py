"""Whole runs with reference images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.tiny import StopAfter, losses, run_job, write_dataset, write_job
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors

SIZES = [(64, 64), (96, 64), (64, 64), (70, 130)]


@pytest.fixture
def controls(tmp_path: Path) -> list[str]:
    """Two folders with references of several sizes for the four images of a test job."""
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        for index, size in enumerate(SIZES if name == "one" else SIZES[::-1]):
            Image.new("RGB", size, (50 * index, 9, 200)).save(folder / f"{index}.jpg")
        folders.append(str(folder))
    return folders


def _write(folder: Path, dataset: dict[str, Any], **sections: Any) -> Path:
    folder.mkdir(exist_ok=True)
    dataset = {"folder_path": str(write_dataset(folder / "images")), "resolution": 32, **dataset}
    return write_job(folder, datasets=[dataset], **sections)


VARIANTS: dict[str, dict[str, Any]] = {
    "one of several sizes": {"control_dropout_rate": 0.3},
    "two, some missing": {"both": True, "allow_missing_control": True, "caption_dropout_rate": 0.5},
    "random crop": {"random_crop": True, "resolution": 16, "flip_x": True},
}
# 4 images with their references; of pictures that are cut anew only the references, which are flipped too
NUM_ENCODED = {"one of several sizes": 8, "two, some missing": 11, "random crop": 8}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_and_resumed_run_with_references_repeats_every_loss_bit_for_bit(
    variant: str, tmp_path: Path, controls: list[str]
) -> None:
    dataset = dict(VARIANTS[variant])
    dataset["control_path"] = controls if dataset.pop("both", False) else controls[0]
    if dataset.get("allow_missing_control"):
        (Path(controls[1]) / "2.jpg").unlink()
    options: dict[str, Any] = {"train": {"steps": 4}, "save": {"save_every": 2}}
    whole, parts = (_write(tmp_path / name, dataset, **options) for name in ("whole", "parts"))
    assert run_job(whole).status == "done"
    # it looks before each of 5 texts and each image that is encoded before, and up to twice after each step
    assert run_job(parts, StopAfter(5 + NUM_ENCODED[variant] + 2)).status == "interrupted"
    outputs = [path.parent / "output" / "job" for path in (whole, parts)]
    assert 0 < len(losses(outputs[1])) < 4
    assert run_job(parts).status == "done"
    assert losses(outputs[0]) == losses(outputs[1])
    one, other = (read_tensors(output / "job.safetensors") for output in outputs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_references_take_part_in_the_training(tmp_path: Path, controls: list[str]) -> None:
    found = set()
    for name in ("none", "one", "matched"):
        dataset = {} if name == "none" else {"control_path": controls[0]}
        more = {"model": {"model_kwargs": {"match_target_res": True}}} if name == "matched" else {}
        path = _write(tmp_path / name, dataset, train={"batch_size": 1, "steps": 1}, **more)
        assert run_job(path).status == "done"
        found.add(losses(path.parent / "output" / "job")[1])
    assert len(found) == 3


def test_cached_references_spare_the_vae_the_second_time(tmp_path: Path, controls: list[str]) -> None:
    dataset = {"control_path": controls, "cache_latents_to_disk": True, "cache_text_embeddings": True}
    job = _write(tmp_path / "run", dataset, train={"steps": 2})
    assert run_job(job).status == "done"
    output = tmp_path / "run" / "output" / "job"
    before = losses(output)
    assert len(list((tmp_path / "run" / "images" / "_latent_cache").glob("*.safetensors"))) == 4 + 8
    shutil.rmtree(output)
    assert run_job(job).status == "done"
    texts = [event.get("text", "") for event in read_events(output / "events.jsonl")]
    assert "all images were cached" in texts
    assert losses(output) == before


def test_another_reference_of_the_same_name_is_encoded_anew(tmp_path: Path, controls: list[str]) -> None:
    dataset = {"control_path": controls[0], "cache_latents_to_disk": True}
    job = _write(tmp_path / "run", dataset, train={"steps": 1})
    assert run_job(job).status == "done"
    output = tmp_path / "run" / "output" / "job"
    shutil.rmtree(output)
    Image.new("RGB", (64, 64), "yellow").save(Path(controls[0]) / "0.jpg")
    assert run_job(job).status == "done"
    assert "1 images encoded" in [event.get("text", "") for event in read_events(output / "events.jsonl")]


def test_samples_are_drawn_from_their_references(tmp_path: Path, controls: list[str]) -> None:
    first, other = (str(Path(folder) / "1.jpg") for folder in controls)
    samples = [
        {"prompt": "a circle"},
        {"prompt": "a circle", "ctrl_img": first},
        {"prompt": "a circle", "ctrl_img": other},
        f"a circle --ctrl_img {first} --ctrl_img_2 {other}",
    ]
    sample = {"samples": samples, "format": "png"}
    job = _write(tmp_path / "run", {}, sample=sample, train={"disable_sampling": False, "steps": 1})
    assert run_job(job).status == "done"
    drawn = sorted((tmp_path / "run" / "output" / "job" / "samples").glob("*__000000000_*.png"))
    assert len(drawn) == 4
    assert len({path.read_bytes() for path in drawn}) == 4
    for path in drawn:
        with Image.open(path) as image:
            assert image.size == (32, 32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [("missing", "2.jpg"), ("small", "at least 64 pixels"), ("sample", "sample.jpg")],
)
def test_references_that_cannot_be_used_are_refused_before_anything_is_loaded(
    tmp_path: Path, controls: list[str], capsys: pytest.CaptureFixture[str], damage: str, message: str
) -> None:
    samples: list[Any] = []
    if damage == "missing":
        (Path(controls[0]) / "2.jpg").unlink()
        message = "images/2.png: has no reference in"
    elif damage == "small":
        Image.new("RGB", (32, 32)).save(Path(controls[0]) / "2.jpg")
    else:
        (tmp_path / "sample.jpg").write_bytes(b"no picture")
        samples = [{"prompt": "a", "ctrl_img": str(tmp_path / "sample.jpg")}]
    dataset = {"control_path": controls[0]}
    job = _write(tmp_path / "run", dataset, sample={"samples": samples}, train={"disable_sampling": not samples})
    assert run_job(job).status == "refused"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "output" / "job").exists()
