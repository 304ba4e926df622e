"""Captions by a model by way of the API: the job's text with its mistakes, and proposals decided about."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.ui.server.conftest import Site, serving_site
from toolkit.data.captions.proposals import Proposal, append_proposals, read_proposals

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests here, each of which has a dataset of its own."""
    with serving_site(tmp_path_factory.mktemp("captioning")) as site:
        site.client.put("/api/settings", json={"training_folder": str(site.folder / "output")})
        yield site


@pytest.fixture
def home(site: Site) -> Path:
    """A dataset of three pictures, one of which has a caption."""
    folder = site.folder / "datasets" / f"cats{next(_NUMBERS)}"
    assert site.client.post("/api/datasets", json={"name": folder.name}).status_code == 200
    for name in "abc":
        Image.new("RGB", (32, 32), (9, 90, 200)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("old", encoding="utf-8")
    return folder


def dataset(site: Site, home: Path) -> str:
    rows = site.client.get("/api/datasets").json()["datasets"]
    return str(next(row["id"] for row in rows if row["name"] == home.name))


def draft(site: Site, home: Path, **more: Any) -> dict[str, Any]:
    body = {"dataset": dataset(site, home), "model": str(home), **more}
    answer = site.client.post("/api/captioning", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def proposed(site: Site, home: Path, **captions: str) -> tuple[str, Path]:
    """A job that has proposed captions: its id and their file."""
    text = draft(site, home, has_all=True)["yaml"]
    id_ = str(site.client.post("/api/jobs", json={"yaml": text}).json()["id"])
    file = Path(site.job(id_)["output_folder"]) / "proposals.jsonl"
    made = [Proposal(f"{name}.png", text, "old" if name == "a" else "", "key") for name, text in captions.items()]
    append_proposals(file, made)
    return id_, file


def shown(site: Site, id_: str) -> dict[str, Any]:
    """The open proposals by picture."""
    answer = site.client.get(f"/api/jobs/{id_}/proposals")
    assert answer.status_code == 200, answer.text
    return {row["image"]: row for row in answer.json()["rows"]}


def decide(site: Site, id_: str, *decisions: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer = site.client.post(f"/api/jobs/{id_}/proposals", json={"decisions": list(decisions)})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def accept(row: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    return {"image": row["image"], "action": "accept", "text": text or row["text"], "if_match": row["tag"]}


def test_the_job_has_a_free_name_and_says_what_is_wrong_with_the_model(site: Site, home: Path) -> None:
    text = draft(site, home, instruction="What is it?", prefix="zrb, ")["yaml"]
    job = yaml.safe_load(text)
    caption = job["config"]["process"][0]["caption"]
    assert (caption["caption_prompt"], caption["prefix"]) == ("What is it?", "zrb, ")
    assert caption["path_to_caption"] == str(home)
    found = site.client.post("/api/check", json={"yaml": text}).json()["problems"]
    assert [it["where"] for it in found if it["severity"] == "error"] == ["caption.model_name_or_path"]
    assert site.client.post("/api/jobs", json={"yaml": text}).status_code == 200
    second = yaml.safe_load(draft(site, home)["yaml"])
    assert second["config"]["name"] == f"{job['config']['name']}_2"


def test_proposals_are_accepted_as_edited_skipped_and_taken_back(site: Site, home: Path) -> None:
    id_, file = proposed(site, home, a="new", b="a dog", c="a fox")
    rows = shown(site, id_)
    assert [(row["before"], row["now"], row["is_conflict"]) for row in rows.values()] == [
        ("old", "old", False),
        ("", "", False),
        ("", "", False),
    ]
    answer = decide(
        site, id_, accept(rows["a.png"], "newer "), accept(rows["b.png"]), {"image": "c.png", "action": "skip"}
    )
    assert (answer["num_written"], answer["kept"]) == (2, [])
    assert ((home / "a.txt").read_text(), (home / "b.txt").read_text()) == ("newer", "a dog")
    assert not (home / "c.txt").exists()
    (home / "a.txt").write_text("edited since", encoding="utf-8")
    assert shown(site, id_) == {}, "what was decided stays decided"
    (home / "a.txt").write_text("newer", encoding="utf-8")
    assert read_proposals(file)["c.png"].text == ""
    undone = site.client.post(f"/api/datasets/{answer['dataset']}/undo", json={"id": answer["undo"]["id"]}).json()
    assert undone["num_restored"] == 2
    assert (home / "a.txt").read_text() == "old"
    assert not (home / "b.txt").exists()
    decide(site, id_, {"image": "c.png", "action": "reopen", "text": "a fox"})
    edited = {**rows["a.png"], "text": "newer"}
    assert shown(site, id_) == {**rows, "a.png": edited}, "an edit that was undone is proposed again"


def test_a_caption_that_was_changed_meanwhile_is_kept_and_shown(site: Site, home: Path) -> None:
    id_, _ = proposed(site, home, a="new", b="a dog")
    rows = shown(site, id_)
    (home / "a.txt").write_text("theirs", encoding="utf-8")
    answer = decide(site, id_, *map(accept, rows.values()))
    assert (answer["num_written"], answer["kept"]) == (1, ["a.png"])
    assert (home / "a.txt").read_text() == "theirs"
    row = shown(site, id_)["a.png"]
    assert (row["is_conflict"], row["before"], row["now"]) == (True, "old", "theirs")
    decide(site, id_, accept(row))
    assert (home / "a.txt").read_text() == "new"


def test_a_dataset_names_the_jobs_with_open_proposals(site: Site, home: Path) -> None:
    url = f"/api/datasets/{dataset(site, home)}/proposals"
    assert site.client.get(url).json() == {"jobs": []}
    id_, _ = proposed(site, home, a="new", b="a dog")
    other = yaml.safe_load(draft(site, home)["yaml"])
    other["config"]["process"][0]["caption"]["caption_extension"] = "caption"
    refused = site.client.post("/api/jobs", json={"yaml": yaml.safe_dump(other)}).json()["id"]
    assert site.client.get(f"/api/jobs/{refused}/proposals").status_code == 409
    odd = site.services.registry.get(refused)
    odd.settings = replace(odd.settings, source="a\0b", caption_extension=None)
    assert site.client.get(f"/api/jobs/{refused}/proposals").json()["dataset"] is None
    (job,) = site.client.get(url).json()["jobs"]
    assert (job["id"], job["num_open"]) == (id_, 2)


def test_bad_decisions_change_nothing(site: Site, home: Path) -> None:
    id_, file = proposed(site, home, a="new", **{"../" + home.name + "/b": "a dog"})
    rows = shown(site, id_)
    assert list(rows) == ["a.png"], "a name that leads out of the folder is none of its pictures"
    before = file.read_bytes()
    decide(site, id_, accept(rows["a.png"]), accept(rows["a.png"], " "), status=422)
    decide(site, id_, accept(rows["a.png"]), {"image": "z.png", "action": "skip"}, status=404)
    assert (file.read_bytes(), (home / "a.txt").read_text()) == (before, "old")
    site.client.post("/api/jobs", json={"yaml": site.text("trains")})
    trains = next(row["id"] for row in site.client.get("/api/jobs").json()["jobs"] if row["name"] == "trains")
    assert site.client.get(f"/api/jobs/{trains}/proposals").status_code == 409
    assert json.loads(before.splitlines()[0])["image"] == "a.png"
