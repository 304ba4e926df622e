"""The queue on a machine with cards, by a driver's program that says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.runtime.test_device_probe import write_driver
from tests.toolkit.runtime.test_nvidia_smi import H100
from tests.ui.server.conftest import Site, serving_site, wait_for


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on a machine with two cards."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    write_driver(bin_, H100, H100 | {"index": "1", "uuid": "GPU-0b7f6e55-93c4-2f0e-88aa-5f2b7a10c3de"})
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    with serving_site(tmp_path) as site:
        yield site


def test_jobs_that_take_the_first_free_card_wait_for_a_card_and_not_for_the_cpu(site: Site) -> None:
    assert [card["name"] for card in site.client.get("/api/machine").json()["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 2
    site.client.put("/api/queue", json={"order": {}, "is_paused": True})
    a, b, c = (site.make(name, start=True) for name in "abc")
    assert site.client.put(f"/api/jobs/{c}", json={"gpu": 1}).status_code == 200
    assert site.client.get("/api/queue").json()["order"] == {"any": [a, b], "1": [c]}
    order = site.client.put("/api/queue", json={"order": {"any": [b, a]}}).json()["order"]
    assert order == {"any": [b, a], "1": [c]}
    order = site.client.put("/api/queue", json={"order": {"0": [a], "cpu": [b]}}).json()["order"]
    assert order == {"0": [a], "any": [b], "1": [c]}
    site.client.put("/api/queue", json={"order": {}, "is_paused": False})
    cards = {id_: site.services.registry.get(id_).launch.gpu for id_ in (a, b, c) if site.wait(id_, "done")}
    assert (cards[a], cards[c]) == (0, 1)


def test_a_job_that_splits_its_model_waits_for_all_cards_and_gets_them(site: Site) -> None:
    first = site.make("first", {"step_s": 0.4}, start=True)
    site.wait(first, "training")
    split = site.make("split", start=True, device="cuda", model={"split_model_over_gpus": True})
    behind = site.make("behind", start=True)
    assert "Waiting for all GPUs" in wait_for(lambda: site.job(split)["reason"])
    launches = [site.services.registry.get(id_).launch for id_ in (first, split, behind) if site.wait(id_, "done")]
    assert [launch.gpus for launch in launches] == [(0,), (0, 1), (0,)]
    assert launches[0].time < launches[1].time < launches[2].time, "a smaller job behind it does not overtake it"
