"""What a hostile neighbour, a broken folder or a bad moment does to the server, each once shown to hurt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ui.server.conftest import ROOT, Site, job_text, options_for, wait_for

OUTSIDE = "is outside"


@pytest.mark.parametrize("spelling", ["/" * 5000, "/" + "./" * 3000, "./" * 3000 + "../" * 12])
def test_a_long_spelling_of_a_short_path_leads_out_no_less(site: Site, spelling: str) -> None:
    text = site.text(datasets=[{"folder_path": f"{spelling}etc", "resolution": 32}])
    answer = site.client.post("/api/jobs", json={"yaml": text})
    assert answer.status_code == 422
    assert OUTSIDE in answer.text
    assert len(answer.text) < 3000
    assert OUTSIDE in site.client.post("/api/check", json={"yaml": text}).text


def test_a_refused_path_does_not_tell_the_variables_in_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hf_very_secret")
    for more in ({"training_folder": "/x/${HUB_TOKEN}"}, {"datasets": [{"folder_path": "/x/${HUB_TOKEN}"}]}):
        for route in ("/api/check", "/api/jobs"):
            answer = site.client.post(route, json={"yaml": site.text(**more)})
            assert "hf_very_secret" not in answer.text
            assert OUTSIDE in answer.text


@pytest.mark.parametrize("text", ["config: []\n", "config: null\n", "config: {name: x, process: 5}\n"])
def test_a_job_text_that_was_broken_by_hand_is_refused_in_words(site: Site, text: str) -> None:
    id_ = site.make()
    (site.output() / "job.yaml").write_text(text, encoding="utf-8")
    for action in ("clone", "start"):
        answer = site.client.post(f"/api/jobs/{id_}/{action}", json={})
        assert answer.status_code < 500, answer.text
