"""toolkit.config.compat.released"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.config.compat.released import label_of, plain_name
from toolkit.config.job import JobConfig
from toolkit.errors import JobError

DISTILLED = ["black-forest-labs/FLUX.2-klein-4B", "black-forest-labs/FLUX.2-klein-4b-fp8"]


def _load(folder: Path, model: dict[str, Any], **sections: Any) -> JobConfig:
    (folder / "images").mkdir(exist_ok=True)
    process = {
        "type": "sd_trainer",
        "network": {"type": "lora"},
        "datasets": [{"folder_path": str(folder / "images")}],
        "train": {"steps": 1},
        "model": model,
        **sections,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"job": "extension", "config": {"name": "job", "process": [process]}}))
    return load_job(path)


@pytest.mark.parametrize(
    "name",
    [
        "black-forest-labs/FLUX.2-klein-9B",
        "/models/flux-2-klein-9b.safetensors",
        "C:\\models\\flux-2-klein-9b-fp8.safetensors",
        "someone/FLUX.2-klein-9b-nvfp4/",
        "flux-2-klein-9b_fp8_scaled.safetensors",
    ],
)
def test_other_spellings_of_the_same_weights_have_one_name(name: str) -> None:
    assert plain_name(name) == "flux-2-klein-9b"


def test_no_two_released_weights_have_the_same_name() -> None:
    names = [name for card in find_cards().values() for name in card.names]
    names += [name for card in find_cards().values() for variant in card.variants for name in variant.names]
    assert len(names) == len(set(names))
    assert all(plain_name(name) == name for name in names)
    assert all(plain_name(card.source) in card.names for card in find_cards().values() if card.names)


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_weights_are_sampled_in_four_steps_and_warned_of(name: str, tmp_path: Path) -> None:
    job = _load(tmp_path, {"name_or_path": name, "arch": "flux2_klein_4b"})
    sample = job.training().sample
    assert (sample.sample_steps, sample.guidance_scale) == (4, 1.0)
    assert sample.width == 1024
    (notice,) = [line for line in job.notices if "name_or_path" in line]
    assert "distilled FLUX.2 [klein] 4B" in notice
    assert "train black-forest-labs/FLUX.2-klein-base-4B" in notice
    assert "model_kwargs: {train_distilled: true}" in notice


@pytest.mark.parametrize(
    ("arch", "place", "label"),
    [
        ("flux", "black-forest-labs/FLUX.1-schnell", "FLUX.1 [schnell]"),
        ("flux", "/models/flux1-schnell.safetensors", "FLUX.1 [schnell]"),
        ("flux", "black-forest-labs/FLUX.1-dev", "FLUX.1 [dev]"),
        ("flux2_klein_4b", "black-forest-labs/FLUX.2-klein-4B", "the distilled FLUX.2 [klein] 4B"),
        ("flux2_klein_4b", "/mine", "FLUX.2 [klein] base 4B"),
    ],
)
def test_a_job_is_headed_with_the_name_of_the_weights_that_it_trains(arch: str, place: str, label: str) -> None:
    assert label_of({"name_or_path": place}, find_cards()[arch]) == label


def test_a_job_may_know_better(tmp_path: Path) -> None:
    model = {"name_or_path": DISTILLED[0], "arch": "flux2_klein_4b", "model_kwargs": {"train_distilled": True}}
    job = _load(tmp_path, model, sample={"sample_steps": 9})
    assert not [line for line in job.notices if "name_or_path" in line]
    sample = job.training().sample
    assert (sample.sample_steps, sample.guidance_scale) == (9, 1.0)


def test_base_weights_are_not_warned_of(tmp_path: Path) -> None:
    job = _load(tmp_path, {"name_or_path": "black-forest-labs/FLUX.2-klein-base-4B", "arch": "flux2_klein_4b"})
    assert not job.notices
    assert job.training().sample.sample_steps == 25


@pytest.mark.parametrize("is_distilled", [True, False])
def test_the_folder_itself_counts_before_its_name(is_distilled: bool, tmp_path: Path) -> None:
    folder = tmp_path / ("FLUX.2-klein-base-4B" if is_distilled else "FLUX.2-klein-4B")
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"is_distilled": is_distilled}))
    job = _load(tmp_path, {"name_or_path": str(folder), "arch": "flux2_klein_4b"})
    assert job.training().sample.sample_steps == (4 if is_distilled else 25)
    assert bool(job.notices) == is_distilled


@pytest.mark.parametrize(
    ("names", "is_distilled"),
    [
        (["flux-2-klein-4b"], True),
        (["flux-2-klein-4b-fp8"], True),
        (["flux-2-klein-4b", "flux-2-klein-base-4b"], False),
    ],
)
def test_released_files_tell_what_a_folder_holds(names: list[str], is_distilled: bool, tmp_path: Path) -> None:
    folder = tmp_path / "FLUX.2-klein-base-4B"
    folder.mkdir()
    for name in (*names, "ae"):
        (folder / f"{name}.safetensors").touch()
    job = _load(tmp_path, {"name_or_path": str(folder), "arch": "flux2_klein_4b"})
    assert job.training().sample.sample_steps == (4 if is_distilled else 25)
    assert bool(job.notices) == is_distilled
    (folder / "flux-2-klein-base-4b.safetensors").unlink(missing_ok=True)
    folder = folder.rename(tmp_path / "models")
    with pytest.raises(JobError, match=r"models is FLUX\.2 \[klein\] base 4B: set `arch: flux2_klein_4b`"):
        _load(tmp_path, {"name_or_path": str(folder), "arch": "flux2"})


def test_the_transformers_own_place_is_the_one_that_counts(tmp_path: Path) -> None:
    file = tmp_path / "flux-2-klein-4b.safetensors"
    file.touch()
    paths = {"transformer": str(file)}
    job = _load(tmp_path, {"name_or_path": DISTILLED[0].replace("klein-", "klein-base-"), "arch": "flux2_klein_4b"})
    assert not job.notices
    base = {"name_or_path": "black-forest-labs/FLUX.2-klein-base-4B", "arch": "flux2_klein_4b"}
    assert _load(tmp_path, base | {"model_paths": paths}).notices


@pytest.mark.parametrize(
    ("arch", "name", "right"),
    [
        ("flux2", "black-forest-labs/FLUX.2-klein-base-9B", "flux2_klein_9b"),
        ("flux2", "black-forest-labs/FLUX.2-klein-4B", "flux2_klein_4b"),
        ("flux2_klein_9b", "black-forest-labs/FLUX.2-klein-base-4B", "flux2_klein_4b"),
        ("flux2_klein_4b", "black-forest-labs/FLUX.2-dev", "flux2"),
        ("flux2_klein_9b", "black-forest-labs/FLUX.2-klein-9b-kv", "flux2_klein_9b_kv"),
        ("flux2_klein_9b_kv", "black-forest-labs/FLUX.2-klein-9B", "flux2_klein_9b"),
    ],
)
def test_a_repository_of_another_arch_is_an_error_that_says_what_to_write(
    arch: str, name: str, right: str, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=rf"model\.arch: {name} is FLUX\.2 .*: set `arch: {right}`"):
        _load(tmp_path, {"name_or_path": name, "arch": arch})


def test_two_places_for_one_component_are_an_error(tmp_path: Path) -> None:
    model = {
        "name_or_path": "black-forest-labs/FLUX.2-dev",
        "arch": "flux2",
        "vae_path": "a/b",
        "model_paths": {"vae": "c/d"},
    }
    with pytest.raises(JobError, match=r"`vae_path` and `model_paths\.vae` name different sources"):
        _load(tmp_path, model)


def test_a_file_of_a_repository_can_be_named(tmp_path: Path) -> None:
    model = {"name_or_path": "black-forest-labs/FLUX.2-dev", "arch": "flux2", "vae_path": "a/b/c.safetensors"}
    assert _load(tmp_path, model).training().model.source_of("vae") == "a/b/c.safetensors"
