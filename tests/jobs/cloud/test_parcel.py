from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cloud.gpus import rented
from jobs.cloud.parcel import Parcel, RemoteFolders, pack
from jobs.cloud.remote_check import check_for
from tests.tiny import ROOT, write_dataset, write_job
from toolkit.config import JobConfig, load_job
from toolkit.config.reading.load import load_job_text
from toolkit.errors import UserError

EXAMPLES = sorted((ROOT / "config" / "examples").glob("train_lora_*.yaml"))


def process_of(parcel: Parcel) -> dict[str, Any]:
    process: dict[str, Any] = yaml.safe_load(parcel.text)["config"]["process"][0]
    return process


def arrive(parcel: Parcel, place: RemoteFolders) -> JobConfig:
    """The job as the other machine reads it."""
    for item in parcel.cargo:
        for name, path in item.files.items():
            target = Path(place.data, item.target, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return load_job_text(parcel.text, Path("sent.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_job_that_arrives_is_the_one_that_was_checked(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = example.read_text(encoding="utf-8").replace(": assets/", f": {ROOT / 'assets'}/")
    text = text.replace("assets/demo_edits", str(ROOT / "assets" / "demo_edits"))
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    for folder in re.findall(r"my_images[\w/]*|output/\w+_set", text):
        write_dataset(tmp_path / folder)
    for image in re.findall(r"(?:ctrl_img|--ctrl_img)\S*\s+(\S+\.(?:png|jpg))", text):
        if not (tmp_path / image).exists():
            (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / image).write_bytes(b"")
    here = load_job(tmp_path / "job.yaml")
    place = RemoteFolders(*(str(tmp_path / "there" / name) for name in ("data", "output", "caches")))
    parcel = pack(here, place)
    there = arrive(parcel, place)
    assert there.notices == here.notices
    for before, after in zip(here.config.process, there.config.process, strict=True):
        targets = {str(item.source): f"{place.data}/{item.target}" for item in parcel.cargo}
        expected = json.dumps(before.model_dump(mode="json")).replace(f'"{tmp_path}/', '"')
        for source, target in sorted(targets.items(), reverse=True):
            expected = expected.replace(f'"{source}', f'"{target}')
            if Path(source).is_relative_to(tmp_path):
                expected = expected.replace(f'"{Path(source).relative_to(tmp_path)}', f'"{target}')
        given = json.loads(expected) | {"training_folder": place.output}
        assert after.model_dump(mode="json") == given


def test_everything_that_is_read_goes_along_and_nothing_that_is_written(tmp_path: Path) -> None:
    job = write_job(tmp_path, log_dir=str(tmp_path / "logs"))
    parcel = pack(load_job(job), RemoteFolders())
    assert [item.source.name for item in parcel.cargo] == ["flux2_tiny", "images"]
    assert process_of(parcel)["training_folder"] == "/output"
    assert process_of(parcel)["log_dir"] == "/output/tensorboard"
    assert str(tmp_path) not in parcel.text


def test_equal_content_goes_to_the_same_place_and_changed_content_to_another(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path))
    before = pack(job, RemoteFolders()).cargo[1].target
    assert pack(job, RemoteFolders()).cargo[1].target == before
    (tmp_path / "images" / "0.txt").write_text("another caption")
    assert pack(job, RemoteFolders()).cargo[1].target != before


def test_references_inside_the_folder_of_the_images_stay_inside(tmp_path: Path) -> None:
    write_dataset(tmp_path / "images" / "before")
    dataset = {"folder_path": str(tmp_path / "images"), "control_path": str(tmp_path / "images" / "before")}
    parcel = pack(load_job(write_job(tmp_path, datasets=[{**dataset, "resolution": 32}])), RemoteFolders())
    sent = process_of(parcel)["datasets"][0]
    assert sent["control_path"] == [f"{sent['folder_path']}/before"]
    assert len(parcel.cargo) == 2


def test_caches_and_hidden_files_stay_here(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path))
    for name in ("_latent_cache", ".thumbnails"):
        write_dataset(tmp_path / "images" / name, count=1)
    assert len(pack(job, RemoteFolders()).cargo[1].files) == 8


def test_a_list_of_images_takes_its_folder_along(tmp_path: Path) -> None:
    images = write_dataset(tmp_path / "images")
    (images / "list.json").write_text(json.dumps({"0.png": {"caption": "a picture"}}))
    job = write_job(tmp_path, datasets=[{"folder_path": str(images / "list.json"), "resolution": 32}])
    assert process_of(pack(load_job(job), RemoteFolders()))["datasets"][0]["folder_path"].endswith("/images/list.json")


def test_a_list_of_images_from_elsewhere_is_refused(tmp_path: Path) -> None:
    images = write_dataset(tmp_path / "images")
    (tmp_path / "lists").mkdir()
    listed = tmp_path / "lists" / "list.json"
    listed.write_text(json.dumps({str(images / "0.png"): {"caption": "a picture"}}))
    job = load_job(write_job(tmp_path, datasets=[{"folder_path": str(listed), "resolution": 32}]))
    with pytest.raises(UserError, match="put the images next to the list"):
        pack(job, RemoteFolders())


def test_a_secret_is_sent_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "do-not-tell-anyone")
    monkeypatch.setenv("AUTHOR", "somebody")
    path = write_job(tmp_path)
    text = path.read_text() + "meta: {service: '${MY_API_KEY}', author: '${AUTHOR}'}\n"
    path.write_text(text)
    parcel = pack(load_job(path), RemoteFolders())
    assert "do-not-tell-anyone" not in parcel.text
    assert parcel.variables == ("MY_API_KEY",)
    assert yaml.safe_load(parcel.text)["meta"] == {"service": "${MY_API_KEY}", "author": "somebody"}


def test_the_check_plans_for_the_rented_card_and_for_empty_folders(tmp_path: Path) -> None:
    checked = check_for(load_job(write_job(tmp_path)), 48, output="/output")
    assert not checked.refusal
    assert any("-> /output/job" in line for line in checked.lines)
    assert any("a card of 48 GB" in line for line in checked.lines)
    assert not checked.is_gated


def test_the_check_plans_for_a_rank_on_each_card(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path))
    alone, checked = (check_for(job, 48, output="/output", cards=cards, machines=2) for cards in (1, 4))
    assert any("8 ranks x 2 images: 16 images a step" in line for line in checked.lines), checked.lines
    assert alone.ram_mib is not None and checked.ram_mib is not None
    assert checked.ram_mib > alone.ram_mib


def test_a_gated_model_needs_a_token_unless_its_weights_are_sent(tmp_path: Path) -> None:
    job = write_job(tmp_path, model={"arch": "flux2", "name_or_path": "black-forest-labs/FLUX.2-dev"})
    assert check_for(load_job(job), 80, output="/output").is_gated


def test_a_card_is_rented_by_name_and_number() -> None:
    name, gpu, count = rented("h100:4")
    assert (name, gpu.memory_gb, count) == ("H100", 80, 4)


@pytest.mark.parametrize("name", ["H100:0", "H100:9", "H100:x", "RTX 4090", ""])
def test_what_cannot_be_rented_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="--gpu"):
        rented(name)
