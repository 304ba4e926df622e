"""Datasets by way of the API: captions that nobody overwrites, changes in bulk and back, findings, and the trash."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ui.server.conftest import Site, serving_site, wait_for
from toolkit.data.buckets import fit_to_bucket
from toolkit.data.report.doctor import CHECKS
from ui.server.datasets.show import NO_CAPTION
from ui.server.jobs.job import Job

_NUMBERS = itertools.count()
RAW = "application/octet-stream"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests here, each of which has a dataset of its own."""
    with serving_site(tmp_path_factory.mktemp("datasets")) as site:
        yield site


@pytest.fixture
def home(site: Site) -> Path:
    """Where the dataset of a test is."""
    return site.folder / "datasets" / f"cats{next(_NUMBERS)}"


def dataset(site: Site, folder: Path, captions: tuple[str | None, ...] = ("a cat", "a dog", None)) -> str:
    """A dataset with a picture for each caption."""
    answer = site.client.post("/api/datasets", json={"name": folder.name})
    assert answer.status_code == 200, answer.text
    for index, text in enumerate(captions):
        Image.new("RGB", (48, 32), (20 * index, 90, 200)).save(folder / f"{index}.png")
        if text is not None:
            (folder / f"{index}.txt").write_text(text, encoding="utf-8")
    return str(answer.json()["id"])


def written_job(site: Site, name: str, dataset: dict[str, Any]) -> Path:
    """The output folder of a job that trains on a dataset, as if somebody had put it there."""
    site.output(name).mkdir(parents=True)
    (site.output(name) / "config.yaml").write_text(site.text(name, datasets=[dataset]), encoding="utf-8")
    return site.output(name)


def pictures(site: Site, id_: str, **query: Any) -> list[dict[str, Any]]:
    return list(site.client.get(f"/api/datasets/{id_}/files", params=query).json()["pictures"])


def write(site: Site, id_: str, file: str, text: str, tag: str) -> Any:
    edit = {"file": file, "text": text, "if_match": tag}
    return site.client.patch(f"/api/datasets/{id_}/captions", json={"edits": [edit]})


def bulk(site: Site, id_: str, **change: Any) -> dict[str, Any]:
    """Preview a change and carry it out."""
    token = site.client.post(f"/api/datasets/{id_}/bulk/preview", json=change).json()["token"]
    answer = site.client.post(f"/api/datasets/{id_}/bulk", json={**change, "token": token})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_dataset_is_made_listed_and_deleted_to_the_trash(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    row = next(it for it in site.client.get("/api/datasets").json()["datasets"] if it["id"] == id_)
    assert (row["name"], row["num_pictures"], row["num_captioned"]) == (home.name, 3, 2)
    assert site.client.get(f"/files/datasets/{row['cover']}?thumb=128").status_code == 200
    for taken in (home.name, home.name.upper()):
        answer = site.client.post("/api/datasets", json={"name": taken})
        assert (answer.status_code, answer.json()["problems"][0]["where"]) == (409, "name")
    assert site.client.delete(f"/api/datasets/{id_}").status_code == 200
    assert not home.exists()
    (deleted,) = (site.folder / ".trash").glob(f"*-{home.name}")
    assert sorted(path.name for path in deleted.iterdir()) == [".dataset", "0.png", "0.txt", "1.png", "1.txt", "2.png"]
    assert site.client.get(f"/api/datasets/{id_}/files").status_code == 404


def test_a_folder_that_is_deleted_under_the_page_is_told(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    first = pictures(site, id_)[0]
    shutil.rmtree(home)
    for answer in (
        site.client.get(f"/api/datasets/{id_}/files"),
        write(site, id_, first["file"], "mine", first["tag"]),
        site.client.post(f"/api/datasets/{id_}/bulk/preview", json={"action": "prefix", "text": "x"}),
        site.client.put(f"/api/datasets/{id_}/files/a.txt", content=b"x", headers={"content-type": RAW}),
    ):
        assert (answer.status_code, "moved or deleted" in answer.text) == (404, True)
    assert not home.exists()


def test_a_picture_shows_the_crop_and_the_size_that_it_is_trained_at(site: Site, home: Path) -> None:
    id_ = dataset(site, home, captions=("a cat",))
    Image.new("RGB", (2000, 1000)).save(home / "wide.png")
    small, wide = pictures(site, id_)
    assert (small["bucket"], small["crop"]) == ([48, 32], [0, 0, 1, 1])
    fit = fit_to_bucket(2000, 1000, resolution=1024, divisor=16)
    assert (wide["bucket"], wide["crop"]) == (list(fit.bucket), pytest.approx(list(fit.crop_shares)))


def test_the_references_and_masks_of_a_picture_are_shown_as_a_job_or_their_names_say(site: Site, home: Path) -> None:
    id_ = dataset(site, home, captions=("a cat", "a dog"))
    before, other = home.with_name(f"{home.name} before"), home.with_name(f"{home.name}_reference")
    for folder in (before, other):
        (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(home / "0.mask.png")
    Image.new("RGB", (48, 32)).save(before / "deep" / "0.jpg")
    Image.new("RGB", (48, 32)).save(other / "1.webp")

    def shown(name: str) -> list[tuple[str, str]]:
        found = next(it for it in pictures(site, id_) if it["name"] == name)["companions"]
        for it in found:
            assert (it["file"] is None) == (it["name"] == "")
            if it["file"] is not None:
                assert site.client.get(f"/files/datasets/{it['file']}?thumb=128").status_code == 200
        return [(it["role"], it["name"]) for it in found]

    assert shown("0.png") == [("mask", "0.mask.png"), ("reference", "")]
    assert shown("1.png") == [("mask", ""), ("reference", "1.webp")]
    outside = site.folder.parent
    entry = {"folder_path": str(home), "control_path": [str(before), str(outside)], "resolution": 32}
    made = site.services.registry.add(written_job(site, home.name, entry))
    assert shown("0.png") == [("reference", "0.jpg"), ("mask", "0.mask.png")]
    assert shown("1.png") == [("reference", ""), ("mask", "")]
    (first, second) = site.client.get(f"/api/datasets/{id_}").json()["companions"]
    assert (first["path"], first["job"], first["num_missing"]) == (str(before), made.folder.name, 1)
    assert (second["path"], second["job"], second["num_missing"]) == (str(home), "", 1)


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", " ", "con", ".hidden", "x" * 201, "a\tb", "dot."])
def test_a_name_that_some_system_does_not_take_is_refused(site: Site, home: Path, name: str) -> None:
    answer = site.client.post("/api/datasets", json={"name": name})
    assert (answer.status_code, answer.json()["problems"][0]["where"]) == (422, "name")
    assert not home.exists()


def test_a_folder_that_holds_others_or_is_trained_on_is_not_deleted(
    site: Site, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = dataset(site, home)
    (home / "inner").mkdir()
    answer = site.client.delete(f"/api/datasets/{id_}")
    assert (answer.status_code, "such as" in answer.text) == (409, True)
    site.make()
    monkeypatch.setattr(Job, "is_live", True)
    images = next(it for it in site.client.get("/api/datasets").json()["datasets"] if it["name"] == "images")
    answer = site.client.delete(f"/api/datasets/{images['id']}")
    assert (answer.status_code, "training on it" in answer.text) == (409, True)


def test_a_caption_is_written_unless_somebody_else_has_changed_it(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    path = home / "0.txt"
    first, _, third = pictures(site, id_)
    saved = write(site, id_, first["file"], "  a black cat \n", first["tag"]).json()["captions"][0]
    assert (saved["text"], path.read_text(encoding="utf-8")) == ("a black cat", "a black cat")
    path.write_text("theirs", encoding="utf-8")
    answer = write(site, id_, first["file"], "mine", saved["tag"])
    (conflict,) = answer.json()["conflicts"]
    assert (answer.status_code, conflict["mine"], conflict["theirs"]) == (409, "mine", "theirs")
    assert path.read_text(encoding="utf-8") == "theirs"
    assert write(site, id_, first["file"], "mine", conflict["tag"]).status_code == 200
    assert write(site, id_, third["file"], "new", third["tag"]).status_code == 200
    assert [it["text"] for it in pictures(site, id_)] == ["mine", "a dog", "new"]


def test_a_caption_that_was_written_does_not_hide_the_names_of_other_files(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    first = pictures(site, id_)[0]
    write(site, id_, first["file"], "mine", first["tag"])
    content = (home / "0.png").read_bytes()
    answer = site.client.put(f"/api/datasets/{id_}/files/1.PNG", content=content, headers={"content-type": RAW})
    assert (answer.status_code, "same file as" in answer.text) == (409, True)


def test_several_captions_are_written_together_or_not_at_all(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    first, second, _ = pictures(site, id_)
    edits = [
        {"file": first["file"], "text": "x", "if_match": first["tag"]},
        {"file": second["file"], "text": "y", "if_match": "another"},
    ]
    assert site.client.patch(f"/api/datasets/{id_}/captions", json={"edits": edits}).status_code == 409
    assert [it["text"] for it in pictures(site, id_)] == ["a cat", "a dog", ""]


@pytest.mark.parametrize(("text", "says"), [("a\0b", "zero byte"), ("ä" * 60_000, "bytes")])
def test_a_text_that_no_caption_file_holds_is_refused(site: Site, home: Path, text: str, says: str) -> None:
    id_ = dataset(site, home)
    first = pictures(site, id_)[0]
    answer = write(site, id_, first["file"], text, first["tag"])
    assert (answer.status_code, says in answer.text) == (422, True)


def test_what_cannot_be_read_is_named_and_a_link_leads_nowhere(site: Site, home: Path, tmp_path: Path) -> None:
    id_ = dataset(site, home)
    folder = home
    secret = tmp_path.parent / f"{tmp_path.name}-secret.txt"
    secret.write_text("outside", encoding="utf-8")
    (folder / "0.txt").unlink()
    (folder / "0.txt").symlink_to(secret)
    (folder / "9.png").symlink_to(secret)
    (folder / "1.txt").write_bytes("é".encode("latin-1"))
    first, second, *_ = found = pictures(site, id_)
    assert len(found) == 3
    assert ("link" in first["trouble"], "not UTF-8" in second["trouble"]) == (True, True)
    assert (first["text"], second["text"]) == ("", "")
    assert write(site, id_, first["file"], "mine", first["tag"]).status_code == 200
    assert (secret.read_text(encoding="utf-8"), (folder / "0.txt").read_text(encoding="utf-8")) == ("outside", "mine")


def test_captions_of_a_list_are_shown_and_give_way_to_files(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    (home / "metadata.jsonl").write_text('{"file_name": "2.png", "text": "listed"}\n', encoding="utf-8")
    third = pictures(site, id_)[2]
    assert (third["text"], third["is_listed"]) == ("listed", True)
    assert write(site, id_, third["file"], "own", third["tag"]).status_code == 200
    third = pictures(site, id_)[2]
    assert (third["text"], third["is_listed"]) == ("own", False)


CHANGES = [
    ({"action": "replace", "find": "A ", "text": "the "}, ["the cat", "the dog", ""]),
    ({"action": "replace", "find": "A ", "text": "the ", "has_case": True}, ["a cat", "a dog", ""]),
    ({"action": "replace", "find": r"(\w)at", "text": r"\1ow", "is_regex": True}, ["a cow", "a dog", ""]),
    ({"action": "replace", "find": "a", "text": "\\1", "is_regex": False}, ["\\1 c\\1t", "\\1 dog", ""]),
    ({"action": "prefix", "text": "photo of "}, ["photo of a cat", "photo of a dog", "photo of"]),
    ({"action": "suffix", "text": ", grey"}, ["a cat, grey", "a dog, grey", ", grey"]),
    ({"action": "trigger", "text": "Cat"}, ["a cat", "Cat, a dog", "Cat"]),
    ({"action": "trigger", "text": "zrb", "q": "dog"}, ["a cat", "zrb, a dog", ""]),
    ({"action": "trigger", "text": "zrb", "kind": NO_CAPTION}, ["a cat", "a dog", "zrb"]),
]


@pytest.mark.parametrize(("change", "texts"), CHANGES)
def test_a_change_in_bulk_is_previewed_made_and_taken_back(
    site: Site, home: Path, change: Any, texts: list[str]
) -> None:
    id_ = dataset(site, home)
    before = ["a cat", "a dog", ""]
    shown = site.client.post(f"/api/datasets/{id_}/bulk/preview", json=change).json()
    changed = [new for old, new in zip(before, texts, strict=True) if old != new]
    assert [it["after"] for it in shown["changes"]] == changed
    done = bulk(site, id_, **change)
    assert [it["text"] for it in pictures(site, id_)] == texts
    if done["num_changed"]:
        assert site.client.get(f"/api/datasets/{id_}").json()["undo"]["id"] == done["undo"]["id"]
        undone = site.client.post(f"/api/datasets/{id_}/undo", json={"id": done["undo"]["id"]}).json()
        assert (undone["num_restored"], undone["num_kept"]) == (done["num_changed"], 0)
    assert [it["text"] for it in pictures(site, id_)] == before
    assert not (home / "2.txt").exists()


def test_what_was_edited_since_stays_when_a_change_is_taken_back(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    done = bulk(site, id_, action="prefix", text="x ")
    first = pictures(site, id_)[0]
    write(site, id_, first["file"], "edited", first["tag"])
    undone = site.client.post(f"/api/datasets/{id_}/undo", json={"id": done["undo"]["id"]}).json()
    assert undone == {"num_restored": 2, "kept": ["0.png"], "num_kept": 1}
    assert [it["text"] for it in pictures(site, id_)] == ["edited", "a dog", ""]
    assert site.client.post(f"/api/datasets/{id_}/undo", json={"id": done["undo"]["id"]}).status_code == 409


def test_a_preview_that_is_out_of_date_is_not_carried_out(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    change = {"action": "prefix", "text": "x "}
    token = site.client.post(f"/api/datasets/{id_}/bulk/preview", json=change).json()["token"]
    (home / "0.txt").write_text("other", encoding="utf-8")
    answer = site.client.post(f"/api/datasets/{id_}/bulk", json={**change, "token": token})
    assert (answer.status_code, [it["text"] for it in pictures(site, id_)]) == (409, ["other", "a dog", ""])


def test_a_pattern_that_would_never_end_is_given_up(site: Site, home: Path, monkeypatch: Any) -> None:
    id_ = dataset(site, home, captions=("a" * 60 + "b",))
    monkeypatch.setattr("ui.server.datasets.pattern._LONGEST_S", 0.5)
    change = {"action": "replace", "find": "(a+)+$", "text": "x", "is_regex": True}
    answer = site.client.post(f"/api/datasets/{id_}/bulk/preview", json=change)
    assert (answer.status_code, answer.json()["problems"][0]["where"]) == (422, "find")
    for find, text in (("(", "x"), ("a", r"\9"), ("", "x")):
        answer = site.client.post(f"/api/datasets/{id_}/bulk/preview", json={**change, "find": find, "text": text})
        assert answer.status_code == 422


def test_pictures_are_removed_with_their_captions_and_a_shared_one_stays(site: Site, home: Path) -> None:
    id_ = dataset(site, home)
    folder = home
    (folder / "0.jpg").write_bytes((folder / "0.png").read_bytes())
    files = {it["name"]: it["file"] for it in pictures(site, id_)}
    body = {"files": [files["0.jpg"], files["1.png"]]}
    assert site.client.post(f"/api/datasets/{id_}/remove", json=body).json()["num_pictures"] == 2
    assert sorted(path.name for path in folder.iterdir()) == [".dataset", "0.png", "0.txt", "2.png"]
    (place,) = (site.folder / ".trash").glob(f"*-pictures of {home.name}")
    assert sorted(path.name for path in place.iterdir()) == ["0.jpg", "1.png", "1.txt"]


def test_the_doctor_looks_beside_the_server_and_its_findings_are_badges(site: Site, home: Path) -> None:
    """The one look at a dataset here takes a process of its own, and so some seconds."""
    id_ = dataset(site, home, captions=("zrb, a cat", "a dog", None))
    folder = home
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "broken.txt").write_text("zrb", encoding="utf-8")
    (folder / "control").mkdir()
    Image.new("RGB", (48, 32)).save(folder / "control" / "0.png")
    assert site.client.get(f"/api/datasets/{id_}/doctor").json()["state"] == "none"
    url = f"/api/datasets/{id_}/doctor"
    assert site.client.post(url, json={"trigger_word": "zrb", "resolution": 64}).json()["state"] == "running"
    found = wait_for(lambda: it if (it := site.client.get(url).json())["state"] != "running" else None)
    assert (found["state"], found["message"], found["is_stale"], found["num_images"]) == ("done", "", False, 3)
    kinds = {it["kind"]: it for it in found["kinds"]}
    assert set(kinds) >= {"unreadable", "flat", "caption missing", "trigger missing", "reference missing"}
    assert all(it["title"] == CHECKS[kind].title for kind, it in kinds.items())
    assert (kinds["unreadable"]["severity"], kinds["flat"]["severity"]) == ("error", "warning")
    assert found["buckets"] == [{"width": 48, "height": 32, "count": 3}]
    assert [it["name"] for it in pictures(site, id_, kind="trigger missing")] == ["1.png"]
    assert [it["name"] for it in pictures(site, id_, kind="reference missing")] == ["1.png", "2.png"]
    assert "unreadable" in [badge["kind"] for badge in pictures(site, id_, q="broken")[0]["badges"]]
    time.sleep(0.01)
    (folder / "1.txt").write_text("zrb, a dog", encoding="utf-8")
    first = pictures(site, id_)[0]
    write(site, id_, first["file"], "zrb, another", first["tag"])
    assert site.client.get(url).json()["is_stale"] is True
