"""Every variant from every layout: load, train two steps, sample, save, and read back what was saved bit for bit.

`make test` runs a sixth of the cells: each layout with one variant, and each variant from several layouts; of the full
fine-tunes half, each variant saved one way. `pytest -s` prints the matrix at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from PIL import Image
from torch import Tensor

from extensions_built_in.sd_trainer.SDTrainer import SDTrainer
from jobs.process.make_model import make_model
from jobs.process.start import Start
from tests import layouts
from tests.contract.models import shorten_texts
from tests.tiny import TINY, write_job
from toolkit.config import load_job
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.randomness import Draws
from toolkit.runtime.stop import StopRequest
from toolkit.train.trainable import TrainableWeights
from toolkit.weights.tensor_files import read_tensors


@dataclass(frozen=True)
class Variant:
    """A released model: its arch, and the name of its released file."""

    arch: str
    stem: str
    is_distilled: bool = False

    @property
    def is_dev(self) -> bool:
        return self.arch == "flux2"

    @property
    def has_references(self) -> bool:
        return self.arch.endswith("_kv")


VARIANTS = {
    "dev": Variant("flux2", "flux2-dev"),
    "klein 4B base": Variant("flux2_klein_4b", "flux-2-klein-base-4b"),
    "klein 4B": Variant("flux2_klein_4b", "flux-2-klein-4b", is_distilled=True),
    "klein 9B base": Variant("flux2_klein_9b", "flux-2-klein-base-9b"),
    "klein 9B": Variant("flux2_klein_9b", "flux-2-klein-9b", is_distilled=True),
    "klein 9B KV": Variant("flux2_klein_9b_kv", "flux-2-klein-9b-kv", is_distilled=True),
}
SAVED_AS = ("safetensors", "diffusers")
CELLS = [
    pytest.param(name, layout, marks=() if row % len(VARIANTS) == column else pytest.mark.torture)
    for column, name in enumerate(VARIANTS)
    for row, layout in enumerate(layouts.LAYOUTS)
]
FULL_CELLS = [
    pytest.param(name, save_format, marks=() if (row + column) % 2 == 0 else pytest.mark.torture)
    for column, name in enumerate(VARIANTS)
    for row, save_format in enumerate(SAVED_AS)
]
PROMPT = "a red circle"


class Watched(SDTrainer):
    """The trainer, with what it trained left in reach."""

    model: BaseModel

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        self.model = model
        return super().make_trainable(model, draws)


@cache
def _transformer(variant: Variant) -> Flux2Transformer2DModel:
    joint_dim = 96 if variant.is_dev else 192
    return layouts.small_transformer(guidance_embeds=variant.is_dev, joint_dim=joint_dim)


@pytest.fixture(scope="module", autouse=True)
def _short_texts() -> Iterator[None]:
    """A longer text means the same to every layout."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_texts(patch)
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with its reference, and an encoder of dev's kind. Captions are encoded once for all cells."""
    folder = tmp_path_factory.mktemp("shared")
    for name in ("images", "references"):
        (folder / name).mkdir()
        Image.new("RGB", (64, 64), (200, 30, 60)).save(folder / name / "0.png")
    (folder / "images" / "0.txt").write_text(PROMPT)
    layouts.write_text_encoder(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def table() -> Iterator[dict[tuple[str, str], str]]:
    """What to say of each cell: (layout, variant) -> text."""
    cells: dict[tuple[str, str], str] = {}
    yield cells
    rows = dict.fromkeys(layout for layout, _ in cells)
    columns = dict.fromkeys(variant for _, variant in cells)
    print(f"\n\n{'':<28}" + "".join(f"{name:<16}" for name in columns))
    for row in rows:
        print(f"{row:<28}" + "".join(f"{cells.get((row, name), '-'):<16}" for name in columns))


def _job(folder: Path, shared: Path, variant: Variant, place: Path, **sections: Any) -> Path:
    sample: dict[str, Any] = {"prompt": PROMPT}
    dataset: dict[str, Any] = {"folder_path": str(shared / "images"), "resolution": 32, "cache_text_embeddings": True}
    if variant.has_references:
        sample["ctrl_img"] = str(shared / "references" / "0.png")
        dataset["control_path"] = str(shared / "references")
    encoder = shared / "encoder" if variant.is_dev else TINY
    defaults: dict[str, Any] = {
        "model": {"name_or_path": str(place), "arch": variant.arch, "te_name_or_path": str(encoder)},
        "datasets": [dataset],
        "train": {"steps": 2, "batch_size": 1, "disable_sampling": False, "skip_first_sample": True},
        "save": {"save_every": 0},
        "sample": {"sample_every": 2, "samples": [sample]},
    }
    return write_job(folder, **(defaults | sections))


def _process(path: Path, *overrides: str) -> Watched:
    job = load_job(path, overrides=overrides)
    return Watched(Watched.check(Start(job, 0, job.training())))


def _prediction(model: BaseModel, variant: Variant) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 64, 2, 2, generator=generator)
    layer = model.transformer.get_submodule("context_embedder")
    embeds = torch.randn(
        1, 12, layer.out_features if model.options.embeds_text else layer.in_features, generator=generator
    )
    references = [torch.randn(1, 64, 2, 3, generator=generator)] if variant.has_references else []
    with torch.no_grad():
        return model.get_noise_prediction(noisy, torch.tensor([400.0]), Condition(embeds, references=references))


def _run(path: Path) -> tuple[Watched, Path]:
    process = _process(path)
    process.run(StopRequest())
    return process, process.output_folder


def _reloaded(path: Path, variant: Variant, *overrides: str) -> Tensor:
    """The prediction of a fresh start from what was saved, before its first step."""
    process = _process(path, *overrides)
    model = make_model(process.checked, notify=print)
    model.load("transformer")
    process.make_trainable(model, Draws(1))
    return _prediction(model, variant)


@pytest.mark.parametrize(("name", "layout"), CELLS)
def test_a_layout_is_loaded_trained_sampled_saved_and_read_back(
    name: str, layout: str, shared: Path, table: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    started, variant = time.process_time(), VARIANTS[name]
    stem = f"{variant.stem}-fp8" if "fp8" in layout else variant.stem
    place = layouts.write_model(
        tmp_path / "model", layout, _transformer(variant), stem=stem, is_distilled=variant.is_distilled
    )
    job = _job(tmp_path, shared, variant, place)
    process, output = _run(job)
    assert process.config.sample.guidance_scale == (1.0 if variant.is_distilled else 4.0)
    (sample,) = (output / "samples").glob("*__000000002_0.jpg")
    with Image.open(sample) as image:
        assert image.size == (32, 32)
    saved = output / "job.safetensors"
    assert any(tensor.count_nonzero() for name, tensor in read_tensors(saved).items() if "lora_B" in name)
    found = _reloaded(job, variant, f"network.pretrained_lora_path={saved}")
    assert torch.equal(found, _prediction(process.model, variant))
    table[layout, name] = f"ok {time.process_time() - started:5.1f} s"


@pytest.mark.parametrize(("name", "save_format"), FULL_CELLS)
def test_a_full_fine_tune_is_the_next_runs_model(
    name: str, save_format: str, shared: Path, table: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    started, variant = time.process_time(), VARIANTS[name]
    place = layouts.write_model(tmp_path / "model", "released", _transformer(variant), stem=variant.stem)
    train = {"steps": 2, "batch_size": 1, "full_finetune": True, "disable_sampling": True}
    save = {"save_every": 0, "save_format": save_format}
    job = _job(tmp_path, shared, variant, place, network=None, train=train, save=save)
    process, output = _run(job)
    saved = output / ("job.safetensors" if save_format == "safetensors" else "job")
    found = _reloaded(job, variant, f"model.name_or_path={saved}")
    assert torch.equal(found, _prediction(process.model, variant))
    table[f"full, saved as {save_format}", name] = f"ok {time.process_time() - started:5.1f} s"
