"""Every route with what its schema allows and with what it does not: no server error, no answer outside the schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.reliability.scale import SEED, count
from tests.ui.server.battery import STREAMS
from tests.ui.server.conftest import TOKEN, Site, options_for
from ui.server.app import create_app
from ui.server.jobs.files import file_id

EXAMPLES = count(10, long=200)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def _operations() -> list[tuple[str, str]]:
    """Every operation of the API but the stream, which never ends; from the app's own schema."""
    paths = create_app(options_for(Path("/nonexistent"))).openapi()["paths"]
    return [(path, method) for path, found in paths.items() for method in found if path not in STREAMS]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a job that has a sample; nothing is started."""
    folder = tmp_path_factory.mktemp("fuzz")
    app = create_app(options_for(folder, has_scheduler=False))
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False) as client:
        client.post("/api/session", json={"token": TOKEN})  # the cookie that opens files
        yield Site(app, client, folder)


@pytest.mark.parametrize(("path", "method"), _operations(), ids=lambda part: str(part))
def test_an_operation_answers_as_its_schema_says(site: Site, path: str, method: str) -> None:
    operation = schemathesis.openapi.from_dict(site.app.openapi())[path][method]
    mode = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=data.draw(mode)))
        is_known = "id" in (case.path_parameters or {}) and data.draw(st.booleans())
        if is_known:
            case.path_parameters["id"] = _known(site, path)  # else nearly all would be unknown
        answer = _send(site.client, case)
        # What was wrong may have been the id; and a body that is too large is refused before it is read.
        checks = CHECKS if is_known or answer.status_code == 413 else [*CHECKS, negative_data_rejection]
        case.validate_response(answer, checks=checks)

    attack()


def _known(site: Site, path: str) -> str:
    """The id of a job, or of a file in it; made again where the attack has deleted it."""
    if "/datasets" in path:
        return _dataset(site) if path.startswith("/api") else _picture(site)
    jobs = site.client.get("/api/jobs", params={"limit": 1}).json()["jobs"]
    id_ = str(jobs[0]["id"]) if jobs else site.make()
    return id_ if path.startswith("/api") else file_id(site.services.registry.get(id_), site.output() / "x.safetensors")


def _dataset(site: Site) -> str:
    site.text()
    for found in site.client.get("/api/datasets").json()["datasets"]:
        if found["name"] == "images":
            return str(found["id"])
    return str(site.client.post("/api/datasets", json={"name": "images"}).json()["id"])


def _picture(site: Site) -> str:
    Image.new("RGB", (16, 16)).save(site.folder / "images" / "always.png")
    return str(site.client.get(f"/api/datasets/{_dataset(site)}/files").json()["pictures"][0]["file"])


def _send(client: TestClient, case: Any) -> Any:
    kwargs = case.as_transport_kwargs(base_url="http://testserver")
    asked = requests.Request(**{key: value for key, value in kwargs.items() if key != "timeout"}).prepare()
    headers = {key: str(value) for key, value in asked.headers.items() if key.lower() != "content-length"}
    body = asked.body.encode() if isinstance(asked.body, str) else asked.body or b""
    assert isinstance(body, bytes)
    return client.request(str(asked.method), str(asked.url), headers=headers, content=body)
