"""Answers that say no, and why: every refusal is a list of problems."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from toolkit.errors import JobError, UserError
from toolkit.files import TEMPORARY_PREFIX, is_disk_full
from ui.server.schemas import Problem, Problems
from ui.server.words import clean


class Refusal(Exception):
    """A request that is not carried out.

    Attributes:
        status: of HTTP: 404 unknown, 409 not now, 422 wrong.
        problems: why, and what to do.
    """

    def __init__(self, status: int, what: str | list[Problem], where: str = "") -> None:
        self.status = status
        problem = [Problem(severity="error", where=where, what=clean(what))] if isinstance(what, str) else what
        self.problems = problem
        super().__init__(status, problem)


def refuse(status: int, problems: list[Problem], headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer of a refused request."""
    return JSONResponse(Problems(problems=problems).model_dump(), status, headers=headers)


def explain_errors(app: FastAPI) -> None:
    """Answer every error that a request can lead to in words."""
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(UserError, _mistake)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(sqlite3.Error, _index)
    for kind in (UnicodeError, RecursionError):
        app.add_exception_handler(kind, _unreadable)


def from_error(error: UserError) -> list[Problem]:
    """The mistakes that an error of the trainer's is about."""
    if isinstance(error, JobError):
        return [
            Problem(severity="error", where=clean(it.where), what=clean(it.what), line=it.line, column=it.column)
            for it in error.problems
        ]
    return [Problem(severity="error", where="", what=clean(str(error)))]


def _one(status: int, what: str, where: str = "", headers: Any = None) -> JSONResponse:
    return refuse(status, [Problem(severity="error", where=where, what=clean(what))], headers)


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return refuse(error.status, error.problems)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        Problem(
            severity="error",
            where=clean(".".join(map(str, mistake.get("loc", ())[1:]))),
            what=clean(str(mistake.get("msg", "is not valid"))),
        )
        for mistake in error.errors()
    ]
    return refuse(422, problems)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # FastAPI's, for a body that is not UTF-8
        return await _unreadable(request, error)
    return _one(error.status_code, str(error.detail), headers=error.headers)


async def _mistake(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    return refuse(422, from_error(error))


async def _system(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    name = _place(str(error.filename)) if error.filename else ""
    place = f"{name}: " if name else ""
    if is_disk_full(error):
        return _one(409, f"The disk is full. Free up some space, then try again.{f' ({name})' if name else ''}")
    if isinstance(error, FileNotFoundError):
        return _one(404, f"{place}no longer exists. Reload the page.")
    return _one(409, f"{place}{error.strerror or error}. Fix this, then try again.")


def _place(file: str) -> str:
    """A file as users know it: of one that is not whole yet, its folder."""
    path = Path(file)
    return str(path.parent) if path.name.startswith(TEMPORARY_PREFIX) else file


async def _index(request: Request, error: Exception) -> JSONResponse:
    return _one(409, f"The job index can't be written ({error}). Free up some disk space, then try again.")


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    return _one(422, "The request contains text that can't be read.")
