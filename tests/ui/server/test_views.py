"""What a page shows of one job: curves, samples, log, files, changes; and the stream of what is new."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ui.server.conftest import Site, serving_site, wait_for
from toolkit.output.events import append_event
from ui.server.schemas import Message
from ui.server.stream import Hub
from ui.server.views.log import LineIndex


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests here."""
    with serving_site(tmp_path_factory.mktemp("views")) as site:
        yield site


@pytest.fixture(scope="module")
def done(site: Site) -> str:
    """A finished job; what a test adds to it is looked at by no other."""
    id_ = site.make(start=True)
    assert site.wait(id_, "done", "failed")["state"] == "done"
    return id_


def test_a_finished_job_shows_curves_samples_log_and_stages(site: Site, done: str) -> None:
    metrics = site.client.get(f"/api/jobs/{done}/metrics").json()
    curves = {series["key"]: series for series in metrics["series"]}
    assert {"loss", "lr", "grad_norm", "step_s", "terms/velocity"} <= curves.keys()
    assert curves["loss"]["steps"] == [1, 2, 3, 4, 5, 6] and metrics["last_step"] == 6
    assert {mark["kind"] for mark in metrics["marks"]} == {"sample", "checkpoint", "resume", "end"}
    few = site.client.get(f"/api/jobs/{done}/metrics", params={"keys": "loss", "points": 2, "from": 2}).json()["series"]
    assert [(series["key"], len(series["steps"])) for series in few] == [("loss", 2)]
    samples = site.client.get(f"/api/jobs/{done}/samples").json()
    assert (samples["steps"], samples["prompts"]) == ([0, 2, 4, 6], ["a red one", "a blue one"])
    assert len(samples["samples"]) == 8
    log = site.client.get(f"/api/jobs/{done}/log", params={"q": "CHECKING"}).json()
    assert (log["lines"][0], log["matches"]) == ("checking job", [0])
    assert [stage["stage"] for stage in site.job(done)["stages"]] == ["encode text", "encode images", "train"]


def test_a_picture_opens_by_its_id_small_too_and_can_be_starred(site: Site, done: str) -> None:
    file = site.client.get(f"/api/jobs/{done}/samples").json()["samples"][0]["file"]
    answer = site.client.get(f"/files/{file}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    small = site.client.get(f"/files/{file}", params={"thumb": 256})
    assert Image.open(io.BytesIO(small.content)).format == "WEBP"
    again = site.client.get(f"/files/{file}", params={"thumb": 256}, headers={"if-none-match": small.headers["etag"]})
    assert again.status_code == 304
    assert "attachment" in site.client.get(f"/files/{file}", params={"download": 1}).headers["content-disposition"]
    url = f"/api/jobs/{done}/samples/{file}/star"
    assert site.client.put(url, json={"is_starred": True}).status_code == 200
    assert site.client.get(f"/api/jobs/{done}/samples").json()["samples"][0]["is_starred"]


def test_a_report_is_shown_as_a_page_that_may_ask_for_nothing(site: Site, done: str) -> None:
    answer = site.client.get(f"/files/jobs/{done}/report")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.count("data:image/webp") == 8 + 4, "samples, and what was trained on"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-scripts" in policy, "its script is a stranger to this page, whatever is in it"
    assert "attachment" in site.client.get(f"/files/jobs/{done}/report?download=1").headers["content-disposition"]


def test_a_job_says_which_round_of_validation_was_the_best(site: Site, done: str) -> None:
    assert site.job(done)["best"] is None
    best = {"figure": "held_out", "step": 4, "mean": -0.1, "half": 0.02, "num": 8, "alike": [6]}
    figures = {"held_out": {"mean": -0.1, "half": 0.02, "num": 8}}
    append_event(
        site.services.registry.get(done).folder / "events.jsonl", "validation", step=6, figures=figures, best=best
    )
    said = site.job(done)["best"]
    assert said.startswith("Best by held-out images: step 4, error -9.5 % against the base model.")
    assert said.endswith("Steps not significantly different from it: 6.")


def test_a_job_that_has_not_run_has_no_report(site: Site) -> None:
    answer = site.client.get(f"/files/jobs/{site.make('unrun')}/report")
    assert answer.status_code == 409
    assert "nothing to report yet" in answer.text


def test_weights_are_downloaded_and_never_shown_inline(site: Site, done: str) -> None:
    file = site.client.get(f"/api/jobs/{done}/checkpoints").json()["checkpoints"][0]["file"]
    answer = site.client.get(f"/files/{file}")
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert site.client.get(f"/files/{file}", params={"thumb": 256}).status_code == 422


def test_changes_since_the_last_run_say_which_are_harmless(site: Site, done: str) -> None:
    site.client.put(f"/api/jobs/{done}", json={"yaml": site.text(train={"lr": 0.5}, save={"save_every": 1})})
    found = site.client.get(f"/api/jobs/{done}/diff").json()["differences"]
    assert {it["key"]: it["is_harmless"] for it in found} == {"train.lr": False, "save.save_every": True}


def test_the_pictures_of_a_step_and_the_steps_of_a_picture_are_known(site: Site, done: str) -> None:
    """Four pictures in twos: each of them once in two steps."""
    url = f"/api/jobs/{done}/seen"
    steps: dict[str, list[int]] = {}
    for step in range(1, 7):
        found = site.client.get(url, params={"step": step}).json()
        assert (found["last_step"], len(found["pictures"])) == (6, 2)
        for it in found["pictures"]:
            steps.setdefault(it["file"], []).append(step)
    assert len(steps) == 4 and all(len({(step - 1) // 2 for step in own}) == 3 for own in steps.values())
    for file, own in steps.items():
        assert site.client.get(url, params={"picture": file}).json()["steps"] == own
        assert site.client.get(f"/files/datasets/{file}?thumb=128").status_code == 200
    assert site.client.get(url, params={"picture": f"{'0' * 16}-{'0' * 16}"}).status_code == 404
    assert site.client.get(f"/api/jobs/{site.make('unseen')}/seen").status_code == 409


def test_notes_and_stars_of_a_job_are_kept_in_its_folder(site: Site, done: str) -> None:
    site.client.put(f"/api/jobs/{done}", json={"stars": 4, "note": "the good one"})
    assert json.loads((site.output() / "notes.json").read_text())["note"] == "the good one"
    assert site.client.get("/api/jobs", params={"q": "good"}).json()["jobs"][0]["stars"] == 4


def test_a_log_of_30_mb_is_paged_quickly(tmp_path: Path) -> None:
    """Takes seconds: it writes the file. The figures are asserted loosely; benchmarks/ui.py measures."""
    path = tmp_path / "log.txt"
    line = b"step 1 of 1000000, loss 0.123456, some more words to make it as long as lines are\n"
    path.write_bytes(line * (30_000_000 // len(line)) + b"the needle\nhalf")
    index = LineIndex(path)
    index.update()
    started = time.monotonic()
    assert index.lines(index.num_lines - 1, 1) == ["the needle"]
    assert index.lines(200_000, 2) == [line.decode().strip()] * 2
    assert time.monotonic() - started < 10, "a page of a log is found without reading all of it"
    assert index.find("NEEDLE") == [index.num_lines - 1]


def test_a_growing_log_is_read_on_and_bars_collapse(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\n 10%\r 50%\r100%\n\x1b[31mred\x1b[0m \xe2\x80\xae\nha")
    index = LineIndex(path)
    index.update()
    assert index.lines(0, 9) == ["one", "100%", "\\x1b[31mred\\x1b[0m \\u202e"]
    with path.open("ab") as file:
        file.write(b"lf\n" + b"x\n" * 200)
    index.update()
    assert (index.num_lines, index.lines(3, 1), index.lines(203, 5)) == (204, ["half"], ["x"])


def test_the_stream_goes_on_after_the_last_id_and_resets_where_it_cannot() -> None:
    async def read(hub: Hub, last: str | None, count: int) -> list[str]:
        found = []
        async for part in hub.read(frozenset({"jobs"}), last):
            found.append(part.decode())
            if len(found) >= count:
                break
        return found

    hub = Hub()
    hub.publish("jobs", Message(kind="removed", job_id="a"))
    hub.publish("machine", Message(kind="machine"))
    hub.publish("jobs", Message(kind="removed", job_id="b"))
    fresh = asyncio.run(read(hub, None, 2))
    assert '"kind":"reset"' in fresh[1] and f"id: {hub.boot}-3" in fresh[1]
    went_on = asyncio.run(read(hub, f"{hub.boot}-1", 2))
    assert '"job_id":"b"' in went_on[1]
    assert '"kind":"reset"' in asyncio.run(read(hub, "other-1", 2))[1]
    assert hub.num_readers == 0


def test_a_stage_before_training_says_how_far_it_is_and_how_long_it_still_takes(site: Site) -> None:
    id_ = site.make("staged", {"stage_s": 2}, start=True)

    def reported() -> Any:
        progress = site.job(id_)["progress"]
        return progress if progress and progress["done"] == 1 else None

    progress = wait_for(reported)
    assert (progress["phase"], progress["total"], progress["phase_left_s"]) == ("encode text", 4, 90)
    site.act(id_, "kill")


def test_a_running_job_is_reported_as_it_progresses(site: Site) -> None:
    id_ = site.make("going", {"step_s": 0.05}, start=True, train={"steps": 4000})
    site.wait(id_, "training")
    now = time.time()

    def told() -> bool:
        sent = [json.loads(it.data) for it in list(site.services.hub._ring) if it.topic == f"job:{id_}"]
        events = [event for message in sent for event in message["events"]]
        return sum(event["kind"] == "step" and event["time"] > now for event in events) > 5

    wait_for(told)
    site.act(id_, "stop")
    site.wait(id_, "interrupted")


def test_the_row_of_a_run_that_only_goes_on_is_sent_twice_a_second(site: Site) -> None:
    """Takes two seconds: it counts what is sent in them."""
    id_ = site.make("long", {"step_s": 0.02}, start=True, train={"steps": 4000})
    site.wait(id_, "training")
    time.sleep(0.7)
    before, began = site.services.hub._number, time.monotonic()

    def sent(topic: str) -> int:
        return sum(it.topic == topic for it in list(site.services.hub._ring) if it.number > before)

    wait_for(lambda: sent("jobs") >= 2 and sent(f"job:{id_}") > 5)
    assert sent("jobs") <= 2 * (time.monotonic() - began) + 2
    site.act(id_, "kill")
