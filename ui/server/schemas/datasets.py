"""Datasets: their pictures and captions, uploads, edits in bulk, and what the doctor finds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ui.server.schemas.base import Answer, Body, Problems, Severity

Tag = str
Role = Literal["reference", "mask", "counterpart"]
LONGEST_CAPTION = 100_000


class DatasetRow(Answer):
    """A folder of pictures."""

    id: str
    name: str
    path: str
    num_pictures: int
    num_captioned: int
    cover: str | None = Field(description="File id of its first picture, for `/files/datasets/{id}`.")


class DatasetList(Answer):
    """`GET /api/datasets`."""

    datasets: list[DatasetRow]
    homes: list[str] = Field(description="Where new ones can be made: `root` of a request is a place in this list.")


class DatasetRequest(Body):
    """`POST /api/datasets`: a new, empty dataset."""

    name: str = Field(min_length=1, max_length=200)
    root: int = Field(0, ge=0, le=1000)


class DatasetId(Answer):
    """What was made or changed."""

    id: str


class UndoStep(Answer):
    """The last edit in bulk, which can be undone."""

    id: str
    what: str
    time: float
    num_captions: int


class UploadLimits(Answer):
    """What an upload may be at most."""

    picture_bytes: int
    caption_bytes: int
    zip_bytes: int
    num_files: int


class CompanionFolder(Answer):
    """A folder whose files belong to the pictures of a dataset."""

    role: Role
    path: str
    job: str = Field(description="Name of the job that says so; empty if the names of folders and files do.")
    num_missing: int = Field(description="Pictures that have no file there.")


class Companion(Answer):
    """What belongs to a picture in one of those folders."""

    role: Role
    folder: str
    name: str = Field(description="Of its file; empty if there is none.")
    file: str | None = Field(description="File id as that of a picture; null if there is none.")


class DatasetDetail(DatasetRow):
    """`GET /api/datasets/{id}`."""

    num_bytes: int
    undo: UndoStep | None
    limits: UploadLimits
    extensions: list[str] = Field(description="Of files that can be uploaded, with their dot.")
    companions: list[CompanionFolder]


class Badge(Answer):
    """What the doctor says about one picture."""

    kind: str
    title: str
    detail: str
    severity: Severity


class PictureRow(Answer):
    """A picture with its caption."""

    file: str = Field(description="File id: `/files/datasets/{id}`, with `?thumb=256` for a small one.")
    name: str
    width: int | None
    height: int | None
    bucket: list[int] | None = Field(description="Width and height that it is trained at, at the doctor's resolution.")
    crop: list[float] | None = Field(description="Left, top, right and bottom of what is kept, as shares of it.")
    num_bytes: int
    text: str
    tag: Tag = Field(description="Of the caption as it is now; an edit sends it back.")
    trouble: str = Field(description="Why the caption cannot be read; empty if nothing is wrong.")
    is_listed: bool = Field(description="The caption is in metadata.jsonl; one written here takes precedence.")
    badges: list[Badge]
    companions: list[Companion]


class Pictures(Answer):
    """`GET /api/datasets/{id}/files`: some of the pictures that were asked for."""

    total: int
    offset: int
    pictures: list[PictureRow]


class CaptionEdit(Body):
    """A caption as someone wants it, and which one they saw."""

    file: str = Field(max_length=64)
    text: str = Field(max_length=LONGEST_CAPTION)
    if_match: Tag = Field(max_length=64, description="Tag of the caption that was edited.")


class CaptionEdits(Body):
    """`PATCH /api/datasets/{id}/captions`: all of them are written, or none."""

    edits: list[CaptionEdit] = Field(min_length=1, max_length=500)


class CaptionRow(Answer):
    """A caption as it is now."""

    file: str
    text: str
    tag: Tag


class Captions(Answer):
    """What was written."""

    captions: list[CaptionRow]


class Conflict(Answer):
    """A caption that someone else has changed in the meantime: both texts."""

    file: str
    name: str
    mine: str
    theirs: str
    tag: Tag = Field(description="Of theirs: an edit that sends it back writes over it.")


class Conflicts(Problems):
    """A refused `PATCH .../captions`; nothing was written."""

    conflicts: list[Conflict] = Field(default_factory=list)


class Selection(Body):
    """Some pictures of a dataset: those that all of these hold for."""

    q: str = Field("", max_length=200, description="In the name or the caption.")
    kind: str = Field("", max_length=64, description="Kind of finding.")
    files: list[str] | None = Field(None, max_length=100_000, description="File ids; null for all.")


class BulkRequest(Selection):
    """`POST /api/datasets/{id}/bulk/preview`: the same change of many captions."""

    action: Literal["replace", "prefix", "suffix", "trigger"]
    text: str = Field(max_length=5000, description="The new text; with `replace`, it may be empty.")
    find: str = Field("", max_length=2000, description="What is replaced.")
    is_regex: bool = False
    has_case: bool = Field(False, description="Letter case counts.")


class BulkChange(Answer):
    """One caption before and after."""

    file: str
    name: str
    before: str
    after: str


class BulkPreview(Answer):
    """What a change in bulk would do."""

    num_changed: int
    num_same: int
    num_skipped: int = Field(description="Captions that cannot be read, or that would become too long.")
    changes: list[BulkChange] = Field(description="The first of them.")
    token: str = Field(description="Of exactly these changes, for `bulk`.")


class BulkApply(BulkRequest):
    """`POST /api/datasets/{id}/bulk`: carry out what was previewed."""

    token: str = Field(max_length=64)


class BulkDone(Answer):
    """What was changed, and how to take it back."""

    num_changed: int
    undo: UndoStep | None


class UndoRequest(Body):
    """`POST /api/datasets/{id}/undo`."""

    id: str = Field(pattern="^[0-9]{1,20}$")


class Undone(Answer):
    """What was undone."""

    num_restored: int
    kept: list[str] = Field(description="Captions that were edited since, and stay; at most 20.")
    num_kept: int


class Uploaded(Answer):
    """A file that has arrived whole."""

    name: str


class Unzipped(Answer):
    """What a zip file has brought."""

    num_pictures: int
    num_captions: int
    skipped: list[str] = Field(description="Files in it that are neither; at most 20.")
    num_skipped: int


class Removal(Body):
    """`POST /api/datasets/{id}/remove`: pictures for the trash."""

    files: list[str] = Field(min_length=1, max_length=10_000, description="File ids.")


class Removed(Answer):
    """What was moved to the trash, and where it is there."""

    num_pictures: int
    place: str


class DoctorRequest(Body):
    """`POST /api/datasets/{id}/doctor`: look a dataset over."""

    resolution: int = Field(1024, ge=64, le=4096)
    trigger_word: str = Field("", max_length=200)


class FindingKind(Answer):
    """One kind of finding."""

    kind: str
    title: str
    advice: str
    severity: Severity
    count: int


class Counted(Answer):
    """A text and how many captions have it."""

    text: str
    count: int


class BucketSize(Answer):
    """A size that pictures are trained at."""

    width: int
    height: int
    count: int


class Doctor(Answer):
    """`GET /api/datasets/{id}/doctor`: what the last look has found, and how far a new one is."""

    state: Literal["none", "running", "done", "failed"]
    is_stale: bool = Field(description="Pictures or captions have changed since.")
    done: int
    total: int
    message: str = Field(description="Why it failed.")
    time: float | None
    resolution: int
    trigger_word: str
    num_images: int
    kinds: list[FindingKind]
    everywhere: list[Counted] = Field(description="Parts that most captions have.")
    buckets: list[BucketSize]
    kept: list[float] = Field(description="Share of a picture that its crop keeps: smallest, middle, largest.")
    problems: list[str] = Field(description="What a training would refuse.")
    notices: list[str]
