"""Pictures and weights by their ids."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import FileResponse, Response

from ui.server.jobs.files import PICTURES, find_file
from ui.server.refusal import Refusal
from ui.server.services import Here
from ui.server.views.thumbs import SIZES

router = APIRouter(tags=["files"])
_FOREVER = "private, max-age=31536000, immutable"


@router.get("/files/{id}", response_class=FileResponse)
def read_file(
    here: Here,
    id: Annotated[str, Path(pattern="^[0-9a-f]{16}-[0-9a-f]{16}$")],  # noqa: A002
    thumb: Annotated[int | None, Query(ge=1, le=4096, description="Side of a small copy in pixels.")] = None,
    download: Annotated[int, Query(ge=0, le=1)] = 0,
    if_none_match: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """A picture as it was drawn, a small copy of it, or weights to keep."""
    job = here.registry.get(id.partition("-")[0])
    path = find_file(job, id)
    kind = PICTURES.get(path.suffix)
    etag = f'"{here.thumbs.key(path, thumb or 0)}"'
    headers = {"etag": etag, "cache-control": _FOREVER if thumb else "private, no-cache"}
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    if thumb is not None:
        if kind is None:
            raise Refusal(422, "Only images have thumbnails.", "thumb")
        size = min((size for size in SIZES if size >= thumb), default=SIZES[-1])
        return Response(here.thumbs.read(path, size), media_type="image/webp", headers=headers)
    is_saved = bool(download) or kind is None
    # Opened by its real path: links were followed, and found to stay in the job's folder.
    return FileResponse(
        os.path.realpath(path),
        media_type=kind or "application/octet-stream",
        filename=path.name,
        content_disposition_type="attachment" if is_saved else "inline",
        headers=headers,
    )
