"""Pictures and weights by their ids, and reports."""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import FileResponse, HTMLResponse, Response

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.errors import UserError
from ui.server.jobs.files import PICTURES, find_file
from ui.server.refusal import Refusal
from ui.server.services import Here, Services
from ui.server.views.thumbs import SIZES

router = APIRouter(tags=["files"])
FileId = Annotated[str, Path(pattern="^[0-9a-f]{16}-[0-9a-f]{16}$")]
Thumb = Annotated[int | None, Query(ge=1, le=4096, description="Side of a small copy in pixels.")]
Download = Annotated[int, Query(ge=0, le=1)]
Known = Annotated[str | None, Header(max_length=200)]
_FOREVER = "private, max-age=31536000, immutable"
# A page of its own kind: its script is in it, and it may ask for nothing, not even what its reader may see here.
_REPORT_CSP = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)


@router.get("/files/{id}", response_class=FileResponse)
def read_file(
    here: Here,
    id: FileId,  # noqa: A002
    thumb: Thumb = None,
    download: Download = 0,
    if_none_match: Known = None,
) -> Response:
    """A picture as it was drawn, a small copy of it, or weights to keep."""
    path = find_file(here.registry.get(id.partition("-")[0]), id)
    return _answer(here, path, thumb, is_saved=bool(download), if_none_match=if_none_match)


@router.get("/files/datasets/{id}", response_class=FileResponse)
def read_picture(
    here: Here,
    id: FileId,  # noqa: A002
    thumb: Thumb = None,
    download: Download = 0,
    if_none_match: Known = None,
) -> Response:
    """A picture of a dataset, or a small copy of it."""
    dataset, _, picture = id.partition("-")
    album = here.library.album(dataset)
    path = album.path(album.get(picture))
    return _answer(here, path, thumb, is_saved=bool(download), if_none_match=if_none_match)


def _answer(
    here: Services, path: FilePath, thumb: int | None, *, is_saved: bool, if_none_match: str | None
) -> Response:
    extension = path.suffix.lower()
    kind = PICTURES.get(extension)
    etag = f'"{here.thumbs.key(path, thumb or 0)}"'
    headers = {"etag": etag, "cache-control": _FOREVER if thumb else "private, no-cache"}
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    if thumb is not None:
        if kind is None and extension not in IMAGE_EXTENSIONS:
            raise Refusal(422, "Only images have thumbnails.", "thumb")
        size = min((size for size in SIZES if size >= thumb), default=SIZES[-1])
        return Response(here.thumbs.read(path, size), media_type="image/webp", headers=headers)
    is_saved = is_saved or kind is None
    # Opened by its real path: links were followed, and found to stay in the job's folder.
    return FileResponse(
        os.path.realpath(path),
        media_type=kind or "application/octet-stream",
        filename=path.name,
        content_disposition_type="attachment" if is_saved else "inline",
        headers=headers,
    )


@router.get("/files/jobs/{id}/report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def read_report(
    here: Here,
    id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],  # noqa: A002
    download: Annotated[int, Query(ge=0, le=1)] = 0,
) -> Response:
    """The report of a job as it is now: one page, which works without this server too."""
    from toolkit.report import render_report  # only who asks for a report needs its parts

    job = here.registry.get(id)
    try:
        page = render_report(job.folder)
    except UserError as error:
        raise Refusal(409, "There is nothing to report yet: the job has not run.") from error
    headers = {"content-security-policy": _REPORT_CSP, "cache-control": "private, no-cache"}
    if download:
        headers["content-disposition"] = 'attachment; filename="report.html"'
    return HTMLResponse(page, headers=headers)
