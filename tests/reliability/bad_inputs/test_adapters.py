"""Adapters of every sad kind: sections, vision encoders, pictures and files, each with one clear error.

What is wrong is told before weights are read, in the check of a job, where its files can tell.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from jobs.job import Job
from scripts.flux2_tiny.vision import write_vision_encoder
from tests.reliability.bad_inputs.battery import expect_error, expect_result
from tests.tiny import tiny_model, write_dataset, write_job
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.files import load_adapter, write_adapter
from toolkit.config import AdapterConfig, load_job
from toolkit.encode.vision import view_shape
from toolkit.errors import JobError
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_metadata, read_tensors

KIND = "adapters"
ENCODER = "ENCODER"  # in a case, stands for the folder of a good one


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision_encoder(tmp_path_factory.mktemp("encoder") / "siglip")


class Jobs:
    """Writes and checks jobs whose adapter sees the training images themselves."""

    def __init__(self, folder: Path, encoder: Path) -> None:
        self.folder, self.encoder = folder, encoder
        self.images = write_dataset(folder / "images")

    def check(self, adapter: Any, *, dataset: dict[str, Any] | None = None, **sections: Any) -> Callable[[], Job]:
        """What checks the job; an error names all problems."""
        dataset = {"folder_path": str(self.images), "resolution": 32, **(dataset or {})}
        if not {"clip_image_path", "control_path"} & dataset.keys():
            dataset["clip_image_from_same_folder"] = True
        given = json.loads(json.dumps(adapter).replace(f'"{ENCODER}"', json.dumps(str(self.encoder))))
        path = write_job(self.folder, adapter=given, datasets=[dataset], **sections)

        def action() -> Job:
            job = Job(load_job(path))
            if problems := [problem for checked in job.checks() for problem in checked.problems]:
                raise JobError(str(path), problems)
            return job

        return action


@pytest.fixture
def jobs(tmp_path: Path, encoder: Path) -> Jobs:
    return Jobs(tmp_path, encoder)


IP = {"type": "ip", "image_encoder_path": ENCODER}

# The section -> words of the error.
SECTIONS: dict[str, tuple[Any, str]] = {
    "a word": ("ip", "adapter: needs a list"),
    "a number": (3, "adapter: needs a list"),
    "a list of words": (["ip"], "adapter[0]: needs keys with values"),
    "no type": ({"image_encoder_path": ENCODER}, "adapter.type: missing"),
    "an unknown type": ({"type": "imagined"}, 'adapter.type: "imagined" is not known. Choose ip, ip+'),
    "an unknown type in a list": ([{"type": "imagined"}], 'adapter[0].type: "imagined" is not known'),
    "a misspelt key": ({**IP, "num_token": 4}, "Did you mean `num_tokens`"),
    "no encoder": ({"type": "ip"}, "set `image_encoder_path` to its folder"),
    "no tokens": ({**IP, "num_tokens": 0}, "adapter.num_tokens: needs at least 1"),
    "a billion tokens": ({**IP, "num_tokens": 10**9}, "adapter.num_tokens: needs at most 4096"),
    "half a token": ({**IP, "num_tokens": 1.5}, "adapter.num_tokens: needs a whole number"),
    "tokens in words": ({**IP, "num_tokens": "four"}, "adapter.num_tokens: needs a whole number"),
    "a share above one": ({**IP, "image_dropout_rate": 1.5}, "adapter.image_dropout_rate: needs at most 1"),
    "unknown blocks": ({**IP, "blocks": "some"}, 'adapter.blocks: "some" is not known. Choose all or double'),
    "an unknown layer": ({**IP, "clip_layer": "last"}, 'adapter.clip_layer: "last" is not known'),
    "an unknown kind of encoder": ({**IP, "image_encoder_arch": "vit"}, "adapter.image_encoder_arch"),
    "two of a kind": ([IP, IP], "`adapter` has 2 times `ip`"),
    "two of a kind among others": ([{**IP, "type": "redux"}, IP, {**IP, "type": "redux"}], "has 2 times `redux`"),
    "an encoder that is nowhere": ({**IP, "image_encoder_path": "nowhere/at/all"}, "neither an existing path nor"),
    "test images that are nowhere": ({**IP, "test_img_path": "nowhere"}, 'no file or folder "nowhere"'),
    "a file that is nowhere": ({**IP, "name_or_path": "nowhere.safetensors"}, 'no file "nowhere.safetensors"'),
    "a folder as a file": ({**IP, "name_or_path": "tests"}, 'no file "tests"'),
    "no control pictures": ({"type": "control_lora"}, "reads 1 folder of control pictures, and there are 0"),
    "too many control pictures": ({"type": "control_lora", "num_control_images": 11}, "needs at most 10"),
    "a cell of another size": ({"type": "subpixel", "subpixel_downscale_factor": 12}, "12 is not known"),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_that_cannot_be_is_refused(name: str, jobs: Jobs) -> None:
    section, words = SECTIONS[name]
    expect_error(KIND, jobs.check(section), words)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_that_needs_a_frozen_model_refuses_a_full_fine_tune(kind: str, jobs: Jobs) -> None:
    if kind == "subpixel":
        pytest.skip("its model is trained whole, too")
    section = {"type": kind} | ({"image_encoder_path": ENCODER} if ADAPTERS[kind].reads == "view" else {})
    action = jobs.check(section, train={"full_finetune": True}, network=None)
    expect_error(KIND, action, "train.full_finetune", "works on a frozen model: keep one of the two")


# Encoders


def _rewrite(name: str, **values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**content, **values}), encoding="utf-8")

    return spoil


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"

# What happens to the folder -> words of the error.
ENCODERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (_empty, "contains no image_encoder"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "contains no image_encoder"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "but no weights of it"),
    "cut configuration": (lambda folder: (folder / CONFIG).write_text("{"), "cannot be read"),
    "a list for a configuration": (lambda folder: (folder / CONFIG).write_text("[]"), "the file is damaged"),
    "patches of no size": (_rewrite(CONFIG, patch_size=0), "the file is damaged"),
    "another width": (_rewrite(CONFIG, hidden_size=32), "of width 32, but weights of width 64"),
    "a text encoder": (_rewrite(CONFIG, model_type="bert"), "is not a supported vision encoder"),
    "cut weights": (_cut, "the file is incomplete"),
    "text for weights": (lambda folder: (folder / WEIGHTS).write_text("x" * 100), "is not a safetensors file"),
    "a colour in words": (_rewrite(PROCESSOR, image_mean="grey"), "`image_mean` is not a list of three"),
    "two of three colours": (_rewrite(PROCESSOR, image_std=[0.5, 0.5]), "`image_std` is not a list of three"),
    "nonsense for a processor": (lambda folder: (folder / PROCESSOR).write_text("x"), "cannot be read"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_that_is_not_whole_is_refused_before_it_is_loaded(
    name: str, jobs: Jobs, encoder: Path, tmp_path: Path
) -> None:
    spoil, words = ENCODERS[name]
    folder = tmp_path / "spoilt"
    shutil.copytree(encoder, folder)
    spoil(folder)
    expect_error(KIND, jobs.check({**IP, "image_encoder_path": str(folder)}), words, str(folder))


# Pictures


def _pictures(folder: Path, mode: str, size: tuple[int, int] = (24, 20)) -> Path:
    folder.mkdir()
    for index in range(4):
        Image.new("RGBA", size, (60 * index, 90, 200, 80 * index)).convert(mode).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_pictures_of_every_mode_are_seen(mode: str, jobs: Jobs, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    if mode == "I;16":  # 16 bits of grey
        folder.mkdir()
        for index in range(4):
            Image.new("I;16", (24, 20), 9000 * index).save(folder / f"{index}.png")
    else:
        _pictures(folder, mode)
    expect_result(KIND, jobs.check(IP, dataset={"clip_image_path": str(folder)}))
    expect_result(KIND, jobs.check({"type": "control_lora"}, dataset={"control_path": str(folder)}))


@pytest.mark.parametrize("key", ["clip_image_path", "control_path"])
@pytest.mark.parametrize("name", ["one pixel", "absent", "unreadable", "cut", "an empty file", "a folder"])
def test_a_picture_that_cannot_be_seen_is_named(name: str, key: str, jobs: Jobs, tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "pictures", "RGB")
    path = folder / "2.png"
    words = "2.png: "
    if name == "one pixel":
        Image.new("RGB", (1, 1)).save(path)
    elif name == "cut":
        path.write_bytes(path.read_bytes()[:60])
    else:
        path.unlink()
        words = "2.png: has no " if name == "absent" else words
        if name == "a folder":
            path.mkdir()
            words = "2.png"
        elif name != "absent":
            path.write_bytes(b"no picture" if name == "unreadable" else b"")
    section = IP if key == "clip_image_path" else {"type": "control_lora"}
    text = expect_error(KIND, jobs.check(section, dataset={key: str(folder)}), words)
    assert "Traceback" not in text


def test_a_mask_without_alpha_is_refused(jobs: Jobs, tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "pictures", "RGB")
    section = {"type": "control_lora", "has_inpainting_input": True}
    dataset = {"control_path": [], "inpaint_path": str(folder)}
    expect_error(KIND, jobs.check(section, dataset=dataset), "has no transparency")


# Files


class Files:
    """The file of each kind of adapter, on the tiny model."""

    def __init__(self, folder: Path, encoder: Path) -> None:
        self.folder, self.encoder = folder, encoder
        self.adapters = {kind: self._make(kind) for kind in ADAPTERS}
        self.paths = {kind: folder / f"{kind}.safetensors" for kind in ADAPTERS}
        for kind, adapter in self.adapters.items():
            write_adapter(self.paths[kind], adapter, dtype=torch.float32, metadata={"format": "pt"})

    def _make(self, kind: str) -> Any:
        section = {"type": kind} | ({"image_encoder_path": str(self.encoder)} if ADAPTERS[kind].reads == "view" else {})
        config = AdapterConfig.model_validate(section)
        adapter = config.choice.load()(config, view_shape(config))
        adapter.attach(tiny_model("transformer"), Draws(0))
        return adapter


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Files:
    return Files(tmp_path_factory.mktemp("files"), encoder)


def _of_another_shape(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    first = max(tensors, key=lambda name: tensors[name].numel())
    return {**tensors, first: tensors[first][:-1].contiguous()}


def _with_nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = max(tensors, key=lambda name: tensors[name].numel())
    return {**tensors, name: torch.full_like(tensors[name], torch.nan)}


CONTENTS: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "empty": lambda tensors: {},
    "a key is missing": lambda tensors: dict(list(tensors.items())[1:]),
    "a key more": lambda tensors: {**tensors, "more.weight": torch.zeros(2)},
    "another shape": _of_another_shape,
    "NaN": _with_nan,
    "a LoRA": lambda tensors: {"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": torch.zeros(2, 192)},
}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_of_something_else_is_refused_and_changes_nothing(
    name: str, kind: str, files: Files, tmp_path: Path
) -> None:
    tensors, path, adapter = read_tensors(files.paths[kind]), tmp_path / "file.safetensors", files.adapters[kind]
    save_file(CONTENTS[name](tensors), path, metadata=read_metadata(files.paths[kind]))
    expect_error(KIND, lambda: load_adapter(path, adapter), str(path))
    now = adapter.state_dict()
    assert all(torch.equal(now[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("name", ["text", "nothing", "cut", "another kind", "another arch", "another encoder"])
def test_the_check_refuses_a_file_whose_header_tells(name: str, jobs: Jobs, files: Files, tmp_path: Path) -> None:
    path, own = tmp_path / "file.safetensors", files.paths["ip"]
    shutil.copy(own, path)
    told = {"another arch": {"adapter_arch": "flux2"}, "another encoder": {"adapter_encoder": "0123"}}
    if name == "text":
        path.write_text("x" * 100)
        words = "is not a safetensors file"
    elif name == "nothing":
        path.write_bytes(b"")
        words = "is not a safetensors file"
    elif name == "cut":
        path.write_bytes(path.read_bytes()[:-1])
        words = "the file is incomplete"
    elif name == "another kind":
        shutil.copy(files.paths["redux"], path)
        words = "was trained with adapter type redux, and this job has ip"
    else:
        save_file(read_tensors(own), path, metadata={**read_metadata(own), **told[name]})
        words = "was trained with adapter"
    expect_error(KIND, jobs.check({**IP, "name_or_path": str(path)}), words, str(path))


def test_the_check_accepts_the_file_that_belongs_to_the_job(jobs: Jobs, files: Files) -> None:
    expect_result(KIND, jobs.check({**IP, "name_or_path": str(files.paths["ip"])}))
