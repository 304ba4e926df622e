"""Whole runs with control pictures: what reaches the adapter, what is drawn, and what the check refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from jobs.job import Job
from tests.tiny import StopAfter, losses, run_job, tiny_model, write_dataset, write_job
from toolkit.adapters.adapter_set import control_name
from toolkit.cards import ReferenceLimits
from toolkit.config import AdapterConfig, DatasetConfig, SampleItem, load_job
from toolkit.data.controls import control_pictures, with_controls
from toolkit.data.examples import Example
from toolkit.data.images import load_opacity, load_pixels
from toolkit.data.references import ReferenceRules
from toolkit.data.scan import scan_datasets
from toolkit.encode.controls import Controls
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.errors import UserError
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_tensors

CONTROL = {"type": "control_lora"}
LORA = {"type": "lora", "linear": 2}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Four images with a control picture each: a dataset of a job."""
    folder = tmp_path / "data"
    images = write_dataset(folder / "images")
    write_pictures(folder / "control")
    return {"folder_path": str(images), "control_path": str(folder / "control"), "resolution": 32}


def write_pictures(folder: Path, *, names: str = "0123", mode: str = "RGB", size_px: int = 32) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        image = Image.new(mode, (size_px, size_px))
        ImageDraw.Draw(image).rectangle((4 * index, 8, 4 * index + 9, 25), fill="white")
        image.save(folder / f"{name}.png")
    return folder


def examples_of(data: dict[str, Any], adapter: dict[str, Any]) -> tuple[Example, ...]:
    config, dataset = AdapterConfig.model_validate(adapter), DatasetConfig.model_validate(data)
    rules = ReferenceRules(ReferenceLimits(), 16, num_controls=config.num_control_folders)
    scan = scan_datasets([dataset], divisor_px=16, trigger_word=None, rules=rules)
    scan = with_controls(scan, [dataset], config)
    assert not scan.problems
    return scan.examples


def controls_of(examples: tuple[Example, ...], adapter: dict[str, Any], tmp_path: Path) -> Controls:
    config = AdapterConfig.model_validate(adapter)
    encodings = Encodings(print, overflow=tmp_path / "overflow")
    images = ImageEncoder(tiny_model("vae"), encodings, fingerprint="vae", backgrounds=[(0, 0, 0)])
    for example in examples:
        pictures: tuple[Any, ...] = (example, *control_pictures(example, config))
        for picture in pictures:
            images.add(picture, folder=None)
    return Controls(0, config, images)


def batch_of(controls: Controls, examples: tuple[Example, ...], *, index: int = 0) -> Tensor:
    latents = [controls.images[example] for example in examples]
    counters = [(index, member) for member in range(len(examples))]
    return controls.of_batch(examples, latents, Draws(0), counters)[control_name(0)]


# What the adapter reads


def test_the_first_folders_are_controls_and_further_ones_references(data: dict[str, Any], tmp_path: Path) -> None:
    more = [str(write_pictures(tmp_path / name, size_px=size)) for name, size in (("second", 64), ("third", 80))]
    data["control_path"] = [data["control_path"], *more]
    adapter = {**CONTROL, "num_control_images": 2}
    example = examples_of(data, adapter)[0]
    assert [picture and picture.path.parent.name for picture in example.controls] == ["control", "second"]
    assert [picture.path.parent.name for picture in example.references] == ["third"]
    assert example.layout == ((32, 32), (80, 80)), "controls have the size of the image and do not lengthen sequences"
    examples = examples_of(data, adapter)
    controls = controls_of(examples, adapter, tmp_path)
    read = batch_of(controls, examples[:1])
    assert read.shape == (1, 2 * 64, 2, 2)
    first, second = (controls.images[picture] for picture in example.controls if picture is not None)
    assert torch.equal(read[0], torch.cat([first, second]))


def test_a_mask_becomes_four_channels_of_its_eight_pixel_cells(data: dict[str, Any], tmp_path: Path) -> None:
    # Cells of 8 x 8 pixels, 4 x 4 of them; # is kept, . is to be painted.
    drawn = ("#..#", ".#.#", "##..", "#.#.")
    image = Image.new("RGBA", (32, 32), (10, 200, 30, 0))
    for row, cells in enumerate(drawn):
        for column, cell in enumerate(cells):
            if cell == "#":
                image.paste((10, 200, 30, 255), (8 * column, 8 * row, 8 * column + 8, 8 * row + 8))
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in "0123":
        image.save(folder / f"{name}.png")
    adapter = {**CONTROL, "has_inpainting_input": True}
    data = {**data, "control_path": [], "inpaint_path": str(folder)}
    examples = examples_of(data, adapter)
    (picture,) = control_pictures(examples[0], AdapterConfig.model_validate(adapter))
    kept = torch.tensor([[cell == "#" for cell in cells] for cells in drawn]).float()
    assert torch.equal(load_opacity(picture, cell_px=8)[0], kept)
    read = batch_of(controls_of(examples, adapter, tmp_path), examples[:1])[0]
    assert read.shape == (64 + 4, 2, 2)
    # The top left token covers "#." and ".#": channels are its upper left, upper right, lower left, lower right cell.
    painted = read[64:]
    assert painted[:, 0, 0].tolist() == [0, 1, 1, 0]
    assert painted[:, 0, 1].tolist() == [1, 0, 1, 0]
    assert painted[:, 1, 0].tolist() == [0, 0, 0, 1]
    assert painted[:, 1, 1].tolist() == [1, 1, 0, 1]
    pixels = load_pixels(picture, background=picture.background)
    assert pixels[:, :8, 8:16].unique().tolist() == [-1.0], "what is to be painted is not seen"


def test_an_inverted_mask_shows_what_was_hidden(data: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in "0123":
        image = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
        image.paste((255, 0, 0, 0), (0, 0, 32, 16))
        image.save(folder / f"{name}.png")
    adapter = {**CONTROL, "has_inpainting_input": True, "invert_inpaint_mask_chance": 0.5}
    data = {**data, "control_path": [], "inpaint_path": str(folder)}
    examples = examples_of(data, adapter)
    shown, hidden = control_pictures(examples[0], AdapterConfig.model_validate(adapter))
    assert load_pixels(shown, background=(0, 0, 0))[:, 0, 0].tolist() == [-1, -1, -1]
    assert load_pixels(hidden, background=(0, 0, 0))[:, 0, 0].tolist() == [1, -1, -1]
    assert load_pixels(hidden, background=(0, 0, 0))[:, 31, 0].tolist() == [-1, -1, -1]
    controls = controls_of(examples, adapter, tmp_path)
    masks = torch.stack([batch_of(controls, examples, index=index)[:, 64:] for index in range(40)])  # [40, 4, 4, 2, 2]
    inverted = masks[:, :, 0, 0, 0] == 0  # the upper half is kept
    assert torch.equal(masks[:, :, 0, 0, 0], 1 - masks[:, :, 0, 1, 0])
    assert 0.35 < inverted.float().mean() < 0.65
    one, again = (batch_of(controls, examples, index=3) for _ in range(2))
    assert torch.equal(one, again), "draws are counted"


def test_dropped_and_missing_controls_are_zero(data: dict[str, Any], tmp_path: Path) -> None:
    Path(data["control_path"], "2.png").unlink()
    adapter = {**CONTROL, "control_image_dropout": 0.25}
    examples = examples_of({**data, "allow_missing_control": True}, adapter)
    controls = controls_of(examples, adapter, tmp_path)
    dropped = torch.stack([(batch_of(controls, examples, index=index) == 0).all(dim=(1, 2, 3)) for index in range(60)])
    assert dropped[:, 2].all()
    assert 0.15 < dropped[:, [0, 1, 3]].float().mean() < 0.35


def test_controls_are_mirrored_with_their_image_and_cropped_like_it(data: dict[str, Any]) -> None:
    for name in "0123":
        picture = Image.new("RGB", (64, 128), "black")
        picture.paste("white", (0, 0, 32, 128))
        picture.save(Path(data["control_path"], f"{name}.png"))
    plain, _, _, _, mirrored, *_ = examples_of({**data, "flip_x": True}, CONTROL)
    left, right = (load_pixels(example.controls[0], background=(0, 0, 0)) for example in (plain, mirrored))  # type: ignore[arg-type]
    assert left.shape == (3, 32, 32)
    assert torch.equal(left.flip(2), right)
    assert left[:, :, :14].min() > 0.9
    assert left[:, :, 18:].max() < -0.9


# Runs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": {"quantize": True, "qtype": "qfloat8", "layer_offloading": True}},
        {"train": {"gradient_checkpointing": True}, "model": {"activation_offloading": True}},
    ],
    ids=["plain", "quantized and offloaded", "recomputed"],
)
def test_a_stopped_and_resumed_run_repeats_every_loss_bit_for_bit(
    data: dict[str, Any], tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapter = {**CONTROL, "control_image_dropout": 0.3}
    data["flip_x"] = True
    whole, parts = (_write(tmp_path / name, data, adapter=adapter, **settings) for name in ("whole", "parts"))
    assert run_job(whole).status == "done"
    # it looks before each of 5 texts, 8 images and 8 controls, and up to twice after each step
    assert run_job(parts, StopAfter(5 + 16 + 4)).status == "interrupted"
    outputs = [path.parent / "output" / "job" for path in (whole, parts)]
    assert 0 < len(losses(outputs[1])) < 6
    assert run_job(parts).status == "done"
    assert losses(outputs[0]) == losses(outputs[1])
    for name in ("job_adapter.safetensors", "job_LoRA.safetensors"):
        one, other = (read_tensors(output / name) for output in outputs)
        assert all(torch.equal(one[key], other[key]) for key in one)
    columns = read_tensors(outputs[0] / "job_adapter.safetensors")["diffusion_model.img_in.lora_B.weight"]
    assert columns.abs().max() > 0


def test_samples_with_a_picture_are_controlled_and_others_are_not(data: dict[str, Any], tmp_path: Path) -> None:
    one, other = (str(Path(data["control_path"]) / f"{name}.png") for name in "03")
    samples: list[dict[str, Any]] = [
        {"prompt": "a", "ctrl_img": one},
        {"prompt": "a", "ctrl_img": other},
        {"prompt": "a"},
    ]
    samples.append({"prompt": "a", "ctrl_img": one, "adapter_conditioning_scale": 0.0})
    given = {
        "sample": {"samples": samples, "format": "png", "guidance_scale": 3},
        "train": {"disable_sampling": False, "steps": 1, "lr": 0.1, "skip_first_sample": True},
    }
    folder = tmp_path / "run"
    assert run_job(_write(folder, data, adapter=CONTROL, **given)).status == "done"
    drawn = sorted((folder / "output" / "job" / "samples").glob("*__000000001_*.png"), key=lambda p: p.stem[-1])
    pixels = []
    for path in drawn:
        with Image.open(path) as image:
            pixels.append(image.tobytes())
    assert len(pixels) == 4
    assert len({*pixels[:3]}) == 3, "each looks at its own picture"
    assert pixels[2] == pixels[3], "off is off"


def test_a_lora_config_of_the_adapter_is_the_network_of_the_job(data: dict[str, Any], tmp_path: Path) -> None:
    adapter = {**CONTROL, "lora_config": {"type": "lora", "linear": 3, "linear_alpha": 3}}
    folder = tmp_path / "run"
    job = _write(folder, data, adapter=adapter, network=None, train={"steps": 1})
    assert load_job(job).config.process[0].network.linear == 3  # type: ignore[attr-defined]
    assert run_job(job).status == "done"
    assert {path.name for path in (folder / "output" / "job").glob("*.safetensors")} == {
        "job_adapter.safetensors",
        "job_LoRA.safetensors",
    }


def test_a_run_starts_from_an_adapter_file(data: dict[str, Any], tmp_path: Path) -> None:
    assert run_job(_write(tmp_path / "first", data, adapter=CONTROL, network=None, train={"steps": 2})).status == "done"
    path = tmp_path / "first" / "output" / "job" / "job.safetensors"
    adapter = {**CONTROL, "name_or_path": str(path)}
    given = {"train": {"steps": 1, "lr": 1e-12}, "network": None}
    assert run_job(_write(tmp_path / "second", data, adapter=adapter, **given)).status == "done"
    key = "diffusion_model.img_in.lora_B.weight"
    continued = tmp_path / "second" / "output" / "job" / "job.safetensors"
    first, second = (read_tensors(file)[key] for file in (path, continued))
    assert (first - second).abs().max() < 1e-9
    assert first.abs().max() > 1e-4


# What the check refuses


def _write(folder: Path, data: dict[str, Any], **sections: Any) -> Path:
    folder.mkdir(exist_ok=True)
    return write_job(folder, datasets=[data], **{"network": LORA, **sections})


def _problem(path: Path) -> str:
    """What a check says, before any weights are read."""
    try:
        checked = list(Job(load_job(path)).checks())
    except UserError as error:
        return str(error)
    return "\n".join(str(problem) for one in checked for problem in one.problems)


def _damage(data: dict[str, Any], name: str) -> None:
    path = Path(data["control_path"], "1.png")
    if name == "missing":
        path.unlink()
    elif name == "unreadable":
        path.write_bytes(b"no image")
    elif name == "twice":
        Image.new("RGB", (32, 32)).save(path.with_suffix(".webp"))


@pytest.mark.parametrize(
    ("change", "adapter", "what"),
    [
        ({"control_path": []}, {}, "reads 1 folder of control pictures, and there are 0"),
        ({}, {"num_control_images": 2}, "reads 2 folders of control pictures, and there is 1"),
        ({}, {"num_control_images": 0}, "num_control_images"),
        ({}, {"control_image_dropout": 1.5}, "control_image_dropout"),
        ({}, {"has_inpainting_input": True}, "inpaint_path: missing"),
        ({"inpaint_path": "nowhere"}, {"has_inpainting_input": True}, "nowhere"),
        ({"inpaint_path": "opaque"}, {"has_inpainting_input": True}, "has no transparency"),
        ({"random_crop": True}, {}, "random_crop: control pictures are encoded once"),
        ({"damage": "missing"}, {}, "has no control picture in"),
        ({"damage": "unreadable"}, {}, "cannot be read"),
        ({"damage": "twice"}, {}, "has several control pictures in"),
        ({}, {"lora_config": {"type": "lora", "linear": 2}}, "there is also a `network`"),
        ({}, {"name_or_path": "missing.safetensors"}, "missing.safetensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_clear_error(
    data: dict[str, Any], tmp_path: Path, change: dict[str, Any], adapter: dict[str, Any], what: str
) -> None:
    change = dict(change)
    if (damage := change.pop("damage", None)) is not None:
        _damage(data, damage)
    if change.get("inpaint_path") == "opaque":
        change["inpaint_path"] = str(write_pictures(tmp_path / "opaque"))
        change["control_path"] = []
    said = _problem(_write(tmp_path / "run", {**data, **change}, adapter={**CONTROL, **adapter}))
    assert what in said
    assert said.count(what) == (4 if what == "has no transparency" else 1)


@pytest.mark.parametrize(
    ("types", "what"),
    [
        (("control_lora", "control_lora"), "has 2 times `control_lora`"),
        (("control_lora", "subpixel"), "change the same layer"),
        (("subpixel", "subpixel"), "change the same layer"),
    ],
)
def test_adapters_that_do_not_go_together_are_refused(
    data: dict[str, Any], tmp_path: Path, types: tuple[str, ...], what: str
) -> None:
    assert what in _problem(_write(tmp_path / "run", data, adapter=[{"type": one} for one in types]))


def test_a_sample_with_an_unusable_picture_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    sample = {"samples": [{"prompt": "a", "ctrl_img": str(broken)}]}
    job = _write(tmp_path / "run", data, adapter=CONTROL, sample=sample, train={"disable_sampling": False})
    assert "cannot be read" in _problem(job)


def test_a_picture_of_another_shape_is_reported(data: dict[str, Any], tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(Path(data["control_path"], "1.png"))
    (checked,) = Job(load_job(_write(tmp_path / "run", data, adapter=CONTROL))).checks()
    assert any("of another aspect ratio, cropped to its centre: 1.png" in line for line in checked.notices)


def test_a_sample_takes_its_first_pictures_as_controls() -> None:
    paths = tuple(Path(name) for name in "abc")
    item = SampleItem("a", "", 32, 32, 0, 1.0, 1, 1.0, references=paths).with_controls(2)
    assert (item.controls, item.references) == (paths[:2], paths[2:])
