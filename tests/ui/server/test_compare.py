"""Runs beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.report.finished import finished_run
from tests.ui.server.conftest import Site


def _finished(site: Site, name: str, *changes: tuple[str, str]) -> str:
    """The id of a run that was made elsewhere, with some words of its job file exchanged."""
    folder = finished_run(site.folder / "output" / name)
    config: Path = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    config.write_text(text, encoding="utf-8")
    return str(site.services.registry.add(folder).id)


def test_runs_are_compared_by_the_settings_that_they_were_started_with(site: Site) -> None:
    first = _finished(site, "first")
    second = _finished(site, "second", ("lr: 0.003", "lr: 0.0005"))
    third = _finished(site, "third", ("lr: 0.003", "lr: 0.003\n      batch_size: 2"))
    (site.output("second") / "job.yaml").write_text(site.text("second", train={"lr": 0.9}), encoding="utf-8")
    answer = site.client.get("/api/compare", params={"runs": f"{first},{second},{third}"}).json()
    settings = {it["key"]: (it["values"], it["is_harmless"]) for it in answer["settings"]}
    assert settings == {
        "train.lr": (["0.003", "0.0005", "0.003"], False),
        "train.batch_size": (["1", "1", "2"], False),
    }
    assert [run["name"] for run in answer["runs"]] == ["first", "second", "third"]
    assert all(run["best"].startswith("Best by held-out images: step 20") for run in answer["runs"])


def test_a_run_whose_job_file_is_damaged_is_named_and_the_others_are_compared(site: Site) -> None:
    broken = _finished(site, "broken", ("arch: flux2_tiny", "arch: nonsense"))
    others = [_finished(site, "first"), _finished(site, "second", ("linear: 8", "linear: 4"))]
    answer = site.client.get("/api/compare", params={"runs": ",".join([broken, *others])}).json()
    assert "nonsense" in answer["runs"][0]["problem"]
    assert not answer["runs"][1]["problem"]
    values = {it["key"]: it["values"] for it in answer["settings"]}
    assert values["network.linear"] == [None, "8", "4"]


@pytest.mark.parametrize(
    ("runs", "status"), [("", 422), ("0" * 16, 422), (",".join(["0" * 16] * 2), 422), (f"{'0' * 16},{'1' * 16}", 404)]
)
def test_too_few_runs_the_same_twice_and_unknown_ones_are_refused(site: Site, runs: str, status: int) -> None:
    answer = site.client.get("/api/compare", params={"runs": runs})
    assert answer.status_code == status
    assert answer.json()["problems"]
