"""Datasets: listed, made, filled, edited and looked over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import anyio.from_thread
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from ui.server.datasets.album import Picture
from ui.server.datasets.captions import apply, preview, save, undo
from ui.server.datasets.library import HOME, OWN
from ui.server.datasets.removal import remove
from ui.server.datasets.show import Findings, chosen, detail_of, pictures_of, row_of
from ui.server.datasets.undo import Journal
from ui.server.datasets.upload import receive
from ui.server.datasets.zips import unzip
from ui.server.refusal import Refusal
from ui.server.schemas import (
    BulkApply,
    BulkDone,
    BulkPreview,
    BulkRequest,
    CaptionEdits,
    Captions,
    Conflicts,
    DatasetDetail,
    DatasetId,
    DatasetList,
    DatasetRequest,
    Doctor,
    DoctorRequest,
    Pictures,
    Problem,
    Removal,
    Removed,
    Selection,
    Undone,
    UndoRequest,
    Unzipped,
    Uploaded,
)
from ui.server.services import Here
from ui.server.words import clean

router = APIRouter(prefix="/api/datasets", tags=["datasets"])
Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Of a dataset.")]
_RAW: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("")
def list_datasets(here: Here) -> DatasetList:
    """Every folder under the roots that holds pictures."""
    homes = [clean(str(root / HOME)) for root in here.roots.folders]
    return DatasetList(datasets=[row_of(dataset) for dataset in here.library.all()], homes=homes)


@router.post("")
def make_dataset(here: Here, body: DatasetRequest) -> DatasetId:
    """A new, empty dataset."""
    return DatasetId(id=here.library.make(body.name, body.root).id)


@router.get("/{id}")
def read_dataset(here: Here, id: Id) -> DatasetDetail:  # noqa: A002
    """A dataset."""
    return detail_of(here.library.get(id), here.library.album(id), here.doctors.companions)


@router.delete("/{id}")
def delete_dataset(here: Here, id: Id) -> DatasetId:  # noqa: A002
    """Move a dataset to the trash of its root."""
    here.library.delete(id)
    return DatasetId(id=id)


@router.get("/{id}/files")
def list_files(
    here: Here,
    id: Id,  # noqa: A002
    q: Annotated[str, Query(max_length=200, description="In the name or the caption.")] = "",
    kind: Annotated[str, Query(max_length=64, description="Kind of finding.")] = "",
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Pictures:
    """Some of the pictures, in the order of their names, with their captions."""
    selection = Selection(q=q, kind=kind)
    findings = Findings(here.doctors.badges(id), here.doctors.resolution(id), here.doctors.companions)
    return pictures_of(here.library.get(id), here.library.album(id), findings, selection, offset=offset, limit=limit)


@router.put("/{id}/files/{name}", openapi_extra=_RAW)
def upload(here: Here, id: Id, name: Annotated[str, Path(max_length=255)], request: Request) -> Uploaded:  # noqa: A002
    """Send a picture or a caption file, as it is."""
    album = here.library.album(id)
    return Uploaded(name=receive(album, album.folder / OWN, name, _chunks(request), _length(request)))


@router.put("/{id}/zip", openapi_extra=_RAW)
def upload_zip(here: Here, id: Id, request: Request) -> Unzipped:  # noqa: A002
    """Send a zip file of pictures and captions, as it is: all that are in it are added, or none."""
    album = here.library.album(id)
    return unzip(album, album.folder / OWN, _chunks(request), _length(request))


@router.post("/{id}/remove")
def remove_files(here: Here, id: Id, body: Removal) -> Removed:  # noqa: A002
    """Move pictures with their captions to the trash."""
    return remove(here.library.get(id), here.library.album(id), body.files)


@router.patch("/{id}/captions", response_model=Captions, responses={409: {"model": Conflicts}})
def write_captions(here: Here, id: Id, body: CaptionEdits) -> Captions | JSONResponse:  # noqa: A002
    """Write captions: all of them, or none if someone else has changed one since it was read."""
    found = save(here.library.album(id), body.edits, partial(_file_id, id))
    if not found.conflicts:
        return Captions(captions=found.captions)
    problems = [
        Problem(
            severity="error", where=it.name, what=f"The caption of {it.name} was changed elsewhere in the meantime."
        )
        for it in found.conflicts
    ]
    return JSONResponse(Conflicts(problems=problems, conflicts=found.conflicts).model_dump(), 409)


@router.post("/{id}/bulk/preview")
def preview_bulk(here: Here, id: Id, body: BulkRequest) -> BulkPreview:  # noqa: A002
    """What the same change of many captions would do."""
    album = here.library.album(id)
    return preview(album, chosen(album, here.doctors.badges(id), body), body, partial(_file_id, id))


@router.post("/{id}/bulk")
def apply_bulk(here: Here, id: Id, body: BulkApply) -> BulkDone:  # noqa: A002
    """Carry out what was previewed."""
    album = here.library.album(id)
    return apply(album, chosen(album, here.doctors.badges(id), body), body, Journal(album.folder / OWN))


@router.post("/{id}/undo")
def undo_bulk(here: Here, id: Id, body: UndoRequest) -> Undone:  # noqa: A002
    """Undo the last change in bulk."""
    album = here.library.album(id)
    return undo(album, Journal(album.folder / OWN), body.id)


@router.get("/{id}/doctor")
def read_doctor(here: Here, id: Id) -> Doctor:  # noqa: A002
    """What the last look has found, and how far a new one is."""
    return here.doctors.state(here.library.get(id), here.library.album(id))


@router.post("/{id}/doctor")
def start_doctor(here: Here, id: Id, body: DoctorRequest) -> Doctor:  # noqa: A002
    """Begin to look a dataset over; nothing if that is under way."""
    dataset, album = here.library.get(id), here.library.album(id)
    here.doctors.start(dataset, album, body)
    return here.doctors.state(dataset, album)


def _file_id(id_: str, picture: Picture) -> str:
    return f"{id_}-{picture.id}"


def _chunks(request: Request) -> Iterator[bytes]:
    """The body of a request, piece by piece, for a route that works in a thread."""
    stream = request.stream()

    async def following() -> bytes | None:
        return await anext(stream, None)

    while True:
        try:
            chunk = anyio.from_thread.run(following)
        except ClientDisconnect:
            raise Refusal(422, "The upload was interrupted.") from None
        if chunk is None:
            return
        if chunk:
            yield chunk


def _length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else None
