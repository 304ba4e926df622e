"""Whole runs of adapters that see images through a vision encoder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from jobs.draw_command import drawing_job
from jobs.job import Job
from jobs.options import read_options
from scripts.flux2_tiny.vision import write_vision_encoder
from tests.drawing import psnr
from tests.tiny import losses, run_job, write_dataset, write_job
from toolkit.errors import UserError
from toolkit.output.events import read_events
from toolkit.runtime.stop import StopRequest
from toolkit.weights.tensor_files import read_tensors


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision_encoder(tmp_path_factory.mktemp("encoder") / "siglip")


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """A picture for each of the four images of a test job, of several sizes and modes."""
    folder = tmp_path / "views"
    folder.mkdir()
    for index, mode in enumerate(("RGB", "L", "RGBA", "P")):
        Image.new("L", (20 + index, 16), 60 * index).convert(mode).save(folder / f"{index}.png")
    return folder


def _write(folder: Path, encoder: Path, dataset: dict[str, Any], *types: str, **sections: Any) -> Path:
    folder.mkdir(exist_ok=True)
    dataset = {"folder_path": str(write_dataset(folder / "images")), "resolution": 32, **dataset}
    adapters = [{"type": one, "image_encoder_path": str(encoder)} for one in types or ("redux",)]
    given = {"network": None, "adapter": adapters, **sections}
    return write_job(folder, datasets=[dataset], **given)


def _texts(folder: Path) -> list[str]:
    return [event.get("text", "") for event in read_events(folder / "output" / "job" / "events.jsonl")]


@pytest.mark.parametrize("kind", ["ip", "redux"])
def test_a_run_with_views_that_is_resumed_repeats_every_loss_bit_for_bit(
    kind: str, tmp_path: Path, encoder: Path, views: Path
) -> None:
    dataset = {"clip_image_path": str(views), "caption_dropout_rate": 0.5, "flip_x": True}
    adapter = {"type": kind, "image_encoder_path": str(encoder), "image_dropout_rate": 0.4}
    network = {"type": "lora", "linear": 2}
    train, save = {"steps": 4}, {"save_every": 2}
    job = _write(tmp_path / "run", encoder, dataset, adapter=adapter, network=network, train=train, save=save)
    output = tmp_path / "run" / "output" / "job"
    assert run_job(job).status == "done"
    before, files = losses(output), sorted(output.glob("job*.safetensors"))
    assert len(files) == 4, "of step 2 and of the end"
    tensors = [{name: tensor.clone() for name, tensor in read_tensors(file).items()} for file in files]
    assert run_job(job, from_step=2).status == "done"
    assert losses(output) == before
    assert len(list((output / "superseded").rglob("job*.safetensors"))) == 2, "they were made anew"
    for file, one in zip(files, tensors, strict=True):
        other = read_tensors(file)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_cached_views_spare_the_encoder_the_second_time(tmp_path: Path, encoder: Path, views: Path) -> None:
    dataset = {"clip_image_path": str(views), "cache_clip_vision_to_disk": True}
    job = _write(tmp_path / "run", encoder, dataset, train={"steps": 2})
    assert run_job(job).status == "done"
    before = losses(tmp_path / "run" / "output" / "job")
    cached = list((tmp_path / "run" / "images" / "_clip_vision_cache").glob("*.safetensors"))
    assert {(tensor.dtype, tuple(tensor.shape)) for path in cached for tensor in read_tensors(path).values()} == {
        (torch.float16, (16, 64))
    }
    assert len(cached) == 4
    shutil.rmtree(tmp_path / "run" / "output")
    assert run_job(job).status == "done"
    assert "all views were cached" in _texts(tmp_path / "run")
    assert losses(tmp_path / "run" / "output" / "job") == before


def test_two_adapters_of_one_job_see_images_each_in_its_own_way(tmp_path: Path, encoder: Path, views: Path) -> None:
    other = write_vision_encoder(tmp_path / "other", seed=1)
    adapters = [
        {"type": "redux", "image_encoder_path": str(encoder)},
        {"type": "vision_direct", "image_encoder_path": str(other), "clip_layer": "penultimate_hidden_states"},
    ]
    network = {"type": "lora", "linear": 2}
    job = _write(
        tmp_path / "run",
        encoder,
        {"clip_image_path": str(views)},
        adapter=adapters,
        network=network,
        train={"steps": 2},
    )
    assert run_job(job).status == "done"
    assert "8 views encoded" in _texts(tmp_path / "run")
    output = tmp_path / "run" / "output" / "job"
    assert {path.name for path in output.glob("*.safetensors")} == {
        "job_LoRA.safetensors",
        "job_redux.safetensors",
        "job_vision_direct.safetensors",
    }


def test_samples_show_adapters_their_own_image_or_the_test_images_in_turn_and_so_does_a_drawing(
    tmp_path: Path, encoder: Path, views: Path
) -> None:
    """Whole jobs: training and drawing must agree on all that stands between a file and a picture."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, color in (("red", "red"), ("blue", "blue")):
        Image.new("RGB", (32, 32), color).save(pictures / f"{name}.png")
    samples = [
        {"prompt": "a", "ctrl_img": str(pictures / "red.png")},
        {"prompt": "a", "ctrl_img": str(pictures / "blue.png")},
        {"prompt": "a", "adapter_conditioning_scale": 0.5},
        {"prompt": "a"},
    ]
    adapters = [
        {"type": kind, "image_encoder_path": str(encoder), "test_img_path": str(pictures)} for kind in ("ip", "redux")
    ]
    given = {
        "adapter": adapters,
        "network": {"type": "lora", "linear": 2},
        "sample": {"samples": samples, "format": "png", "guidance_scale": 3, "neg": "b"},
        "train": {"disable_sampling": False, "skip_first_sample": True, "steps": 1, "lr": 0.02},
    }
    job = _write(tmp_path / "run", encoder, {"clip_image_path": str(views)}, **given)
    assert run_job(job).status == "done"
    output = tmp_path / "run" / "output" / "job"
    of_run = sorted(output.glob("samples/*__000000001_*.png"), key=lambda path: path.name.rsplit("_", 1)[1])
    pixels = [Image.open(path).tobytes() for path in of_run]
    assert pixels[0] != pixels[1], "the adapters look"
    assert pixels[2] not in (pixels[1], pixels[3]), "half as strong"
    assert pixels[3] == pixels[0], "the fourth sample gets the second of two images"
    assert Job(drawing_job(read_options(["--sample", str(job)]))).run(StopRequest()).status == "done"
    drawn = sorted((output / "drawn").glob("*.png"))
    assert [psnr(Image.open(one), Image.open(other)) >= 40 for one, other in zip(drawn, of_run, strict=True)] == 4 * [
        True
    ]


def test_regularisation_images_may_have_nothing_to_see(tmp_path: Path, encoder: Path, views: Path) -> None:
    folder = tmp_path / "run"
    write_dataset(folder / "reg")
    datasets = [
        {"folder_path": str(write_dataset(folder / "images")), "resolution": 32, "clip_image_path": str(views)},
        {"folder_path": str(folder / "reg"), "resolution": 32, "is_reg": True},
    ]
    adapter = {"type": "redux", "image_encoder_path": str(encoder)}
    job = write_job(folder, adapter=adapter, datasets=datasets, train={"steps": 2})
    assert run_job(job).status == "done"
    assert "4 views encoded" in _texts(folder)


def _no_folder(job: dict[str, Any], views: Path) -> None:
    del job["dataset"]["clip_image_path"]


def _no_image(job: dict[str, Any], views: Path) -> None:
    (views / "2.png").unlink()


def _two_images(job: dict[str, Any], views: Path) -> None:
    Image.new("RGB", (16, 16)).save(views / "2.jpg")


def _unreadable(job: dict[str, Any], views: Path) -> None:
    (views / "1.png").write_bytes(b"no picture")


def _one_pixel(job: dict[str, Any], views: Path) -> None:
    Image.new("RGB", (1, 1)).save(views / "3.png")


def _unreadable_test(job: dict[str, Any], views: Path) -> None:
    path = views.parent / "test.png"
    path.write_bytes(b"no picture")
    job["adapter"]["test_img_path"] = [str(path)]
    job["sample"] = {"samples": [{"prompt": "a"}]}
    job["train"] = {"disable_sampling": False}


def _empty_tests(job: dict[str, Any], views: Path) -> None:
    (views.parent / "empty").mkdir()
    job["adapter"]["test_img_path"] = str(views.parent / "empty")


def _no_encoder(job: dict[str, Any], views: Path) -> None:
    job["adapter"]["image_encoder_path"] = "/nowhere/siglip"


def _no_vision(job: dict[str, Any], views: Path) -> None:
    folder = views.parent / "text"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    job["adapter"]["image_encoder_path"] = str(folder)


def _wrong_arch(job: dict[str, Any], views: Path) -> None:
    job["adapter"]["image_encoder_arch"] = "dinov3"


BAD = {
    "no folder": (_no_folder, "datasets[0].clip_image_path: missing. The `redux` adapter sees an image"),
    "no image": (_no_image, "images/2.png: has no image for the adapter in"),
    "two images": (_two_images, "images/2.png: has several images for the adapter in"),
    "unreadable": (_unreadable, "views/1.png: cannot be read"),
    "one pixel": (_one_pixel, "views/3.png: has 1 x 1 pixels, too few"),
    "unreadable test image": (_unreadable_test, "test.png: cannot be read"),
    "empty folder of test images": (_empty_tests, "contains no images"),
    "no encoder": (_no_encoder, '"/nowhere/siglip" is neither an existing path nor a hub id'),
    "no vision encoder": (_no_vision, "model_type: bert"),
    "wrong arch": (_wrong_arch, "is a siglip encoder, not dinov3"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_adapters_cannot_see_is_refused_before_anything_is_loaded(
    name: str, tmp_path: Path, encoder: Path, views: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = BAD[name]
    job: dict[str, Any] = {
        "dataset": {"clip_image_path": str(views)},
        "adapter": {"type": "redux", "image_encoder_path": str(encoder)},
    }
    spoil(job, views)
    path = _write(tmp_path / "run", encoder, job.pop("dataset"), **job)
    try:
        assert run_job(path).status == "refused"
        text = capsys.readouterr().err
    except UserError as error:  # what is wrong with the file itself
        text = str(error)
    assert message in text
    assert not (tmp_path / "run" / "output" / "job").exists()


def test_two_adapters_and_a_lora_go_on_from_their_three_files(tmp_path: Path, encoder: Path, views: Path) -> None:
    """Four seconds: a short run and one that begins with its files."""
    kinds = ("ip", "redux")
    dataset = {"clip_image_path": str(views)}
    first, second = tmp_path / "first", tmp_path / "second"
    network: dict[str, Any] = {"type": "lora", "linear": 2}
    train = {"steps": 2, "lr": 1e-2, "disable_sampling": True}
    assert run_job(_write(first, encoder, dataset, *kinds, network=network, train=train)).status == "done"
    files = {path.name: read_tensors(path) for path in (first / "output" / "job").glob("*.safetensors")}
    assert files.keys() == {"job_LoRA.safetensors", "job_adapter.safetensors", "job_ip.safetensors"}
    output = first / "output" / "job"
    adapters = [
        {"type": kind, "image_encoder_path": str(encoder), "name_or_path": str(output / name)}
        for kind, name in zip(kinds, ("job_ip.safetensors", "job_adapter.safetensors"), strict=True)
    ]
    network["pretrained_lora_path"] = str(output / "job_LoRA.safetensors")
    train = {"steps": 1, "lr": 1e-12}
    assert run_job(_write(second, encoder, dataset, adapter=adapters, network=network, train=train)).status == "done"
    for name, tensors in files.items():
        again = read_tensors(second / "output" / "job" / name)
        assert again.keys() == tensors.keys()
        assert all((again[key] - tensors[key]).abs().max() < 1e-6 for key in tensors), name
