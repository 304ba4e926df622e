"""The web server: its routes, who may use them, and what every request goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from toolkit.version import VERSION
from ui.server.auth import Keys, read_token, require_cookie, require_token
from ui.server.options import Options
from ui.server.refusal import explain_errors
from ui.server.routes import (
    captioning,
    compare,
    datasets,
    events,
    files,
    job_check,
    jobs,
    knowledge,
    notices,
    page,
    session,
    tryouts,
    views,
)
from ui.server.schemas import Problems
from ui.server.services import Life, make_services
from ui.server.web.guard import Guard

# By reference: as a model, FastAPI would build a validator for each status of each route, 0.3 s at every start.
_PROBLEMS = {"application/json": {"schema": {"$ref": "#/components/schemas/Problems"}}}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": _PROBLEMS}
    for status, what in {
        401: "Missing or incorrect token",
        403: "Request from another site",
        404: "Not found",
        409: "Not possible in the current state",
        413: "Too large",
        415: "Not JSON",
        422: "Wrong",
        429: "Too many incorrect tokens",
    }.items()
}


def create_app(options: Options) -> FastAPI:
    """The server as an ASGI application. Its threads live from startup to shutdown."""
    services = make_services(options)
    life = Life(services)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        life.begin()
        try:
            yield
        finally:
            life.end()

    app = FastAPI(
        title="FLUX.2 trainer", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.services = services
    app.state.keys = Keys(options.token or read_token(options.store / "token"))
    explain_errors(app)
    # once as a model, which is then among the schema's components
    app.include_router(session.router, responses=_REFUSALS | {401: {"model": Problems, "description": "Wrong token"}})
    # Whatever is in this router needs the token; a route that does not is turned up by tests of the router's list.
    guarded = APIRouter(dependencies=[Depends(require_token)], responses=_REFUSALS)
    for part in (captioning, job_check, compare, datasets, events, knowledge, notices, tryouts, views, jobs):
        guarded.include_router(part.router)
    app.include_router(guarded)
    app.include_router(files.router, dependencies=[Depends(require_cookie)], responses=_REFUSALS)
    app.include_router(page.router)
    app.add_middleware(Guard, hosts=options.hosts, opens_api=app.state.keys.opens_api)
    return app
