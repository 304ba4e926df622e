"""The batteries U2 to U5 over the router's own list of routes, and that each of them sees a planted hole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.testclient import TestClient

from tests.ui.server import battery
from tests.ui.server.battery import SECRET, Target
from tests.ui.server.conftest import TOKEN, Site, job_text, options_for
from ui.server.app import create_app
from ui.server.auth import COOKIE, require_token
from ui.server.options import Options
from ui.server.schemas import ActionRequest


@contextmanager
def attacked(folder: Path, plant: Callable[[FastAPI, Path], APIRouter] | None = None) -> Iterator[Target]:
    """A server with one finished job, a folder that is none of its business, and what a test plants."""
    site, outside = folder / "site", folder / "outside"
    outside.mkdir(parents=True)
    site.mkdir()
    (outside / "secret.txt").write_text(SECRET, encoding="utf-8")
    (site / "link").symlink_to(outside)
    app = create_app(options_for(site, roots=(site,), has_scheduler=False))
    if plant is not None:
        app.router.routes[:0] = plant(app, site).routes
    _finished_job(site / "output" / "old")
    with TestClient(app) as client:
        (job,) = app.state.services.registry.all()
        samples = client.get(f"/api/jobs/{job.id}/samples", headers={"Authorization": f"Bearer {TOKEN}"}).json()
        key = {"Authorization": f"Bearer {TOKEN}"}
        (dataset,) = client.get("/api/datasets", headers=key).json()["datasets"]
        pictures = client.get(f"/api/datasets/{dataset['id']}/files", headers=key).json()["pictures"]
        yield Target(
            app,
            client,
            site,
            outside,
            job.id,
            [it["file"] for it in samples["samples"]],
            dataset["id"],
            [it["file"] for it in pictures],
        )


def _finished_job(folder: Path) -> None:
    from PIL import Image

    (folder / "samples").mkdir(parents=True)
    (folder / "job.yaml").write_text(job_text(folder.parents[1], "old"), encoding="utf-8")
    events = [
        {"time": 1.0, "kind": "job", "name": "old", "arch": "flux2_tiny", "steps": 6},
        {"time": 2.0, "kind": "step", "step": 1, "loss": 0.5, "lr": 1e-4, "step_s": 0.1},
    ]
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    Image.new("RGB", (16, 16)).save(folder / "samples" / "1700000000000__000000001_0.png")
    (folder / "log.txt").write_text("a line\n", encoding="utf-8")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("attacked")) as target:
        yield target


@pytest.mark.parametrize("attack", battery.ATTACKS, ids=lambda attack: attack.__name__)
def test_the_server_withstands(attack: Callable[[Target], list[str]], target: Target, record_property: Any) -> None:
    """Some take seconds: hundreds of payloads in every parameter."""
    assert len(battery.routes(target.app)) > 20
    before = target.num_requests
    assert attack(target) == []
    record_property("requests", target.num_requests - before)
    print(f"{attack.__name__}: {target.num_requests - before} requests to {len(battery.routes(target.app))} routes")


def test_every_battery_has_enough_payloads(target: Target) -> None:
    assert len(battery.payloads(target)) >= 80


def _unguarded(app: FastAPI, folder: Path) -> APIRouter:
    router = APIRouter()
    router.add_api_route("/api/hole", lambda: {"jobs": []})
    return router


def _changing(app: FastAPI, folder: Path) -> APIRouter:
    router = APIRouter(dependencies=[Depends(require_token)])

    def touch() -> dict[str, str]:
        (folder / "touched").write_text("x", encoding="utf-8")
        return {}

    router.add_api_route("/api/touch", touch)
    return router


def _unresolved(app: FastAPI, folder: Path) -> APIRouter:
    router = APIRouter(dependencies=[Depends(require_token)])

    def read(name: str) -> PlainTextResponse:
        try:
            return PlainTextResponse((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return PlainTextResponse("", 404)

    router.add_api_route("/api/read", read)
    return router


def _reflecting(app: FastAPI, folder: Path) -> APIRouter:
    router = APIRouter(dependencies=[Depends(require_token)])
    router.add_api_route("/api/echo", lambda q: HTMLResponse(f"<p>{q}</p>"), response_class=HTMLResponse)
    return router


def _cookie_for_post(app: FastAPI, folder: Path) -> APIRouter:
    router = APIRouter()

    def either(request: Request, body: ActionRequest) -> dict[str, str]:
        if request.cookies.get(COOKIE) != app.state.keys.cookie:
            require_token(app.state.keys, request.headers.get("authorization"))
        return {}

    either.__annotations__ |= {"request": Request, "body": ActionRequest}
    router.add_api_route("/api/either", either, methods=["POST"])
    return router


HOLES = [
    (_unguarded, battery.unguarded),
    (_changing, battery.changing_gets),
    (_unresolved, battery.leaks),
    (_reflecting, battery.reflections),
    (_cookie_for_post, battery.cookie_opens),
]


@pytest.mark.parametrize(("plant", "attack"), HOLES, ids=[attack.__name__ for _, attack in HOLES])
def test_a_planted_hole_turns_the_battery_red(plant: Any, attack: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(battery, "_written", lambda target: [])  # the other half of `leaks`, which takes its time
    every, routes = battery.payloads, battery.routes
    monkeypatch.setattr(battery, "payloads", lambda target: every(target)[:20])
    monkeypatch.setattr(battery, "routes", lambda app: routes(app)[:6])  # the planted one is the first
    with attacked(tmp_path, plant) as target:
        assert attack(target)


def test_ten_wrong_tokens_cause_a_pause_and_the_right_one_still_works(site: Site) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [site.client.get("/api/jobs", headers=wrong).status_code for _ in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    assert site.client.get("/api/jobs").status_code == 200


def test_the_token_is_traded_for_another_one_and_a_cookie_that_opens_files_only(site: Site) -> None:
    answer = site.client.post("/api/session", json={"token": TOKEN}, headers={"Authorization": ""})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/files" in cookie
    token = answer.json()["token"]
    assert token not in cookie and TOKEN not in cookie and token != TOKEN
    assert site.client.get("/api/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_token_file_is_for_this_user_only(tmp_path: Path) -> None:
    create_app(options_for(tmp_path, token=None))
    assert (tmp_path / "store" / "token").stat().st_mode & 0o777 == 0o600


def test_a_hub_token_is_written_and_never_read_out(site: Site) -> None:
    secret = "hf_abcdefghijklmnop"
    assert site.client.put("/api/settings", json={"hub_token": secret}).status_code == 200
    for url in ("/api/settings", "/api/machine", "/api/jobs"):
        assert secret not in site.client.get(url).text
    assert site.client.get("/api/settings").json()["has_hub_token"] is True
    assert (site.folder / "store" / "hub_token").stat().st_mode & 0o777 == 0o600


def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    answer = site.client.post("/api/check", json={"yaml": "x" * 3_000_000})
    assert answer.status_code == 413


def test_listening_to_other_machines_needs_a_long_token(tmp_path: Path) -> None:
    from ui.server.main import TOKEN_VARIABLE, _parser, options_of

    given = _parser().parse_args(["--listen", "--store", str(tmp_path)])
    with pytest.raises(ValueError, match="needs 32"):
        options_of(given, {TOKEN_VARIABLE: "password"}, tmp_path)
    options: Annotated[Options, "with a token of its own"] = options_of(given, {}, tmp_path)
    assert options.may_run_elsewhere and options.token is None
