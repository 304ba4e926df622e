"""toolkit.config.compat.released"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.config.compat.released import label_of, plain_name
from toolkit.config.drawing.twin import twin_of
from toolkit.config.job import JobConfig
from toolkit.errors import JobError
from toolkit.train.tasks.sample_needs import describe_twin
from toolkit.weights.tensor_files import write_tensors

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


def _flux_places(folder: Path, *, guidance: bool) -> list[Path]:
    """FLUX.1 weights under names that say nothing: a model's folder, its transformer's, a file, a folder of files."""
    config = json.dumps({"guidance_embeds": guidance})
    for place in (folder / "mine" / "transformer", folder / "alone"):
        place.mkdir(parents=True)
        (place / "config.json").write_text(config)
    names = ["time_in.in_layer.weight", *(["guidance_in.in_layer.weight"] if guidance else [])]
    tensors = {f"model.diffusion_model.{name}": torch.zeros(1) for name in names}
    (folder / "files").mkdir()
    for file in (folder / "mine.safetensors", folder / "files" / "mine.safetensors"):
        write_tensors(file, tensors)
    write_tensors(folder / "files" / "ae.safetensors", {"decoder.conv_in.weight": torch.zeros(1)})
    return [folder / "mine", folder / "alone", folder / "mine.safetensors", folder / "files"]


@pytest.mark.parametrize("guidance", [True, False])
def test_local_files_tell_schnell_from_dev_whatever_they_are_called(guidance: bool, tmp_path: Path) -> None:
    card = find_cards()["flux"]
    for place in _flux_places(tmp_path, guidance=guidance):
        assert label_of({"name_or_path": str(place)}, card) == ("FLUX.1 [dev]" if guidance else "FLUX.1 [schnell]")
    renamed = tmp_path / "FLUX.1-schnell"
    (tmp_path / "mine").rename(renamed)
    assert (label_of({"name_or_path": str(renamed)}, card) == "FLUX.1 [dev]") == guidance
    assert label_of({"name_or_path": "/x", "model_paths": {"transformer": str(tmp_path / "alone")}}, card) == (
        "FLUX.1 [dev]" if guidance else "FLUX.1 [schnell]"
    )


def test_files_that_show_nothing_leave_it_to_the_name(tmp_path: Path) -> None:
    card = find_cards()["flux"]
    for name, content in (("flux1-schnell.safetensors", b"\xff" * 9), ("mine.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
    assert label_of({"name_or_path": str(tmp_path / "flux1-schnell.safetensors")}, card) == "FLUX.1 [schnell]"
    assert label_of({"name_or_path": str(tmp_path / "mine.safetensors")}, card) == "FLUX.1 [dev]"


def test_keys_that_mean_nothing_to_weights_without_guidance_are_named(tmp_path: Path) -> None:
    place, *_ = _flux_places(tmp_path, guidance=False)
    sample = {"guidance_scale": 3.5, "prompts": ["a cat --l 3", "a dog --l 1"]}
    train = {"steps": 1, "cfg_scale": 3.5, "bypass_guidance_embedding": True}
    job = _load(tmp_path, {"name_or_path": str(place), "arch": "flux"}, sample=sample, train=train)
    told = [line.partition(": ")[0] for line in job.notices if "has no effect here" in line]
    keys = ["train.cfg_scale", "train.bypass_guidance_embedding", "sample.guidance_scale"]
    assert sorted(told) == sorted(f"config.process[0].{key}" for key in (*keys, "sample.prompts[0].guidance_scale"))
    (advice,) = [line for line in job.notices if "name_or_path" in line]
    assert "these weights have no guidance embedding, like those of FLUX.1 [schnell]" in advice
    assert job.training().sample.sample_steps == 4


def test_guidance_written_as_its_default_is_named_too(tmp_path: Path) -> None:
    place, *_ = _flux_places(tmp_path, guidance=False)
    model = {"name_or_path": str(place), "arch": "flux"}
    job = _load(tmp_path, model, sample={"guidance_scale": 4, "prompts": ["a cat"]})
    assert [line for line in job.notices if "sample.guidance_scale: has no effect here" in line]
    assert not [line for line in _load(tmp_path, model).notices if "guidance_scale: has no effect" in line]


def test_leave_to_train_distilled_weights_means_nothing_to_base_weights(tmp_path: Path) -> None:
    for name, is_idle in (("FLUX.2-klein-base-4B", True), ("FLUX.2-klein-4B", False)):
        model = {"name_or_path": f"x/{name}", "arch": "flux2_klein_4b", "model_kwargs": {"train_distilled": True}}
        assert any("train_distilled: has no effect here" in line for line in _load(tmp_path, model).notices) == is_idle


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
def test_released_files_show_what_a_folder_holds(names: list[str], is_distilled: bool, tmp_path: Path) -> None:
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


BASE = {"name_or_path": "black-forest-labs/FLUX.2-klein-base-4B", "arch": "flux2_klein_4b"}


@pytest.mark.parametrize(
    ("setting", "drawn_on", "how"),
    [
        ("distilled", "black-forest-labs/FLUX.2-klein-4B", (4, 1.0)),
        ("someone/nobody-knows-it", "someone/nobody-knows-it", (4, 1.0)),
        ("mirror/FLUX.2-klein-base-4B-fp8", "mirror/FLUX.2-klein-base-4B-fp8", (25, 4.0)),
    ],
)
def test_samples_on_other_weights_are_drawn_as_suits_those(
    setting: str, drawn_on: str, how: tuple[int, float], tmp_path: Path
) -> None:
    sample = {"model": setting, "prompts": ["a cat", "a dog --steps 9"]}
    config = _load(tmp_path, BASE, sample=sample, first_sample={"prompts": ["a cat"]}).training()
    first, own = config.sample.items()
    assert (first.sample_steps, first.guidance_scale) == how
    assert (own.sample_steps, own.guidance_scale) == (9, how[1])
    assert config.first_sample is not None and config.first_sample.sample_steps == how[0]
    twin = twin_of(config)
    assert twin is not None and twin.name_or_path == drawn_on
    assert not config.embeds_text, "the other weights have a first layer for text of their own"
    (line,) = describe_twin(config)
    assert line.startswith(f"samples: drawn on {drawn_on} with the network applied, in {how[0]} steps")
