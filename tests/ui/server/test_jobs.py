"""Jobs from draft to done: every state comes from the folder and the process."""

from __future__ import annotations

from tests.ui.server.conftest import Site


def test_a_job_goes_from_draft_to_done(site: Site) -> None:
    id_ = site.make()
    assert site.job(id_)["state"] == "draft"
    site.act(id_, "start")
    job = site.wait(id_, "done", "failed", "refused")
    assert job["state"] == "done", job
    assert job["progress"]["step"] == 6
    assert job["thumb"]
