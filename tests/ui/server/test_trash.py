"""What was deleted takes room, which the page shows and gives back."""

from __future__ import annotations

import time
from pathlib import Path

from tests.ui.server.conftest import Site
from toolkit.output.lock import RunLock
from ui.server.actions.trash import KEPT_DAYS


def deleted(site: Site, name: str) -> Path:
    id_ = site.make(name)
    (site.output(name) / "weights").write_bytes(b"x" * 1000)
    assert site.client.delete(f"/api/jobs/{id_}").status_code == 200
    return max((site.folder / ".trash").iterdir(), key=lambda path: path.name.endswith(name))


def test_the_trash_says_its_size_and_is_emptied_on_demand(site: Site) -> None:
    assert site.client.get("/api/trash").json()["num_jobs"] == 0
    deleted(site, "a")
    deleted(site, "b")
    found = site.client.get("/api/trash").json()
    assert (found["num_jobs"], found["days"], found["folders"]) == (2, KEPT_DAYS, [str(site.folder / ".trash")])
    assert 2000 < found["num_bytes"] < 20_000
    assert abs(found["oldest"] - time.time()) < 60
    answer = site.client.delete("/api/trash")
    assert (answer.status_code, answer.json()["num_jobs"], answer.json()["num_bytes"]) == (200, 0, 0)
    assert not list((site.folder / ".trash").iterdir())


def test_what_was_deleted_long_ago_is_removed_by_itself_and_nothing_else(site: Site) -> None:
    old, new = deleted(site, "old"), deleted(site, "new")
    when = time.localtime(time.time() - (KEPT_DAYS + 1) * 24 * 3600)
    old = old.rename(old.with_name(f"{time.strftime('%Y%m%d-%H%M%S', when)}-000000000-old"))
    own = site.folder / ".trash" / "put here by hand"
    own.mkdir()
    site.services.trash.remove_old()
    assert not old.exists()
    assert new.is_dir() and own.is_dir()


def test_nothing_outside_is_emptied_by_way_of_a_link_and_no_folder_that_a_run_uses(site: Site, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "file").write_text("mine", encoding="utf-8")
    trash = site.folder / ".trash"
    used = deleted(site, "used")
    (trash / "20200101-000000-000000000-link").symlink_to(outside)
    (used / "link").symlink_to(outside / "inner")
    with RunLock(used):
        answer = site.client.delete("/api/trash")
        assert (answer.status_code, "in use by a run" in answer.text, used.is_dir()) == (409, True, True)
    assert site.client.delete("/api/trash").status_code == 200
    assert not used.exists()
    trash_link = site.folder / "images" / ".trash"
    assert not trash_link.exists()
    assert (outside / "inner" / "file").read_text(encoding="utf-8") == "mine"


def test_checkpoints_that_were_set_aside_take_room_until_they_are_removed(site: Site) -> None:
    id_ = site.make(start=True)
    site.wait(id_, "done")
    assert site.client.get(f"/api/jobs/{id_}/aside").json() == {"num_folders": 0, "num_bytes": 0}
    site.client.delete(f"/api/jobs/{id_}/checkpoints/3")
    found = site.client.get(f"/api/jobs/{id_}/aside").json()
    assert found["num_folders"] == 1 and found["num_bytes"] > 0
    assert site.client.delete(f"/api/jobs/{id_}/aside").json()["num_folders"] == 0
    assert not (site.output() / "superseded").exists()
    assert [it["step"] for it in site.client.get(f"/api/jobs/{id_}/checkpoints").json()["checkpoints"]] == [6]


def test_the_second_tab_to_save_a_job_is_warned_and_the_text_of_the_first_stays(site: Site) -> None:
    id_ = site.make()
    before = site.job(id_)["yaml"]
    mine, theirs = f"{before}# mine\n", f"{before}# theirs\n"
    assert site.client.put(f"/api/jobs/{id_}", json={"yaml": theirs, "before": before}).status_code == 200
    answer = site.client.put(f"/api/jobs/{id_}", json={"yaml": mine, "before": before})
    assert (answer.status_code, "changed in another tab" in answer.text) == (409, True)
    assert site.job(id_)["yaml"] == theirs
    assert site.client.put(f"/api/jobs/{id_}", json={"yaml": theirs, "before": before}).status_code == 200
    assert site.client.put(f"/api/jobs/{id_}", json={"yaml": mine, "before": theirs}).status_code == 200
