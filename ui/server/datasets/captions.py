"""Captions written one by one and in bulk, never overwriting what someone else has written in the meantime."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from toolkit.data.captions.files import MAX_BYTES
from toolkit.data.captions.texts import plain
from toolkit.files import delete_file
from ui.server.datasets.album import Album, Caption, Picture, tag_of
from ui.server.datasets.pattern import replaced
from ui.server.datasets.undo import Former, Journal
from ui.server.refusal import Refusal
from ui.server.schemas import (
    BulkApply,
    BulkChange,
    BulkDone,
    BulkPreview,
    BulkRequest,
    CaptionEdit,
    CaptionRow,
    Conflict,
    Undone,
    UndoStep,
)
from ui.server.words import clean

_SHOWN = 50
_NAMED = 20
_WRITERS = 8  # most of the time is spent on waiting for the disk
FileId = Callable[[Picture], str]


@dataclass(frozen=True)
class Changed:
    """A caption that a change in bulk makes another."""

    picture: Picture
    before: Caption
    after: str


@dataclass(frozen=True)
class Saved:
    """What was written; with conflicts, nothing was."""

    captions: list[CaptionRow]
    conflicts: list[Conflict]


def save(album: Album, edits: Sequence[CaptionEdit], file_id: FileId) -> Saved:
    """Write captions: all of them, or none if someone else has changed one since it was read.

    Raises:
        Refusal: a picture is gone, or a text cannot be one.
    """
    with album.lock:
        wanted = [(album.get(edit.file.rpartition("-")[2]), plain(edit.text), edit) for edit in edits]
        conflicts = []
        for picture, text, edit in wanted:
            check_text(text, picture.name)
            now = album.caption(picture, is_fresh=True)
            if now.tag != edit.if_match and now.text != text:
                conflicts.append(
                    Conflict(
                        file=edit.file, name=clean(picture.name), mine=edit.text, theirs=clean(now.text), tag=now.tag
                    )
                )
        if conflicts:
            return Saved([], conflicts)
        rows = []
        for picture, text, _ in wanted:
            now = album.caption(picture)
            if now.trouble or now.is_listed or now.text != text:
                now = album.write(picture, text)
            rows.append(CaptionRow(file=file_id(picture), text=now.text, tag=now.tag))
        return Saved(rows, [])


def changes_of(album: Album, pictures: Sequence[Picture], request: BulkRequest) -> tuple[list[Changed], int]:
    """The captions that a change in bulk makes others, and how many it has to leave out.

    Raises:
        Refusal: it is not one that can be made.
    """
    captions = [(picture, album.caption(picture)) for picture in pictures]
    sound = [(picture, caption) for picture, caption in captions if not caption.trouble]
    texts = _made([caption.text for _, caption in sound], request)
    made = [Changed(*pair, plain(text)) for pair, text in zip(sound, texts, strict=True)]
    fitting = [it for it in made if len(it.after.encode("utf-8", "replace")) <= MAX_BYTES]
    changed = [it for it in fitting if it.after != it.before.text]
    return changed, len(captions) - len(fitting)


def preview(album: Album, pictures: Sequence[Picture], request: BulkRequest, file_id: FileId) -> BulkPreview:
    """What a change in bulk would do; raises as `changes_of` does."""
    changed, num_skipped = changes_of(album, pictures, request)
    return BulkPreview(
        num_changed=len(changed),
        num_same=len(pictures) - len(changed) - num_skipped,
        num_skipped=num_skipped,
        changes=[
            BulkChange(
                file=file_id(it.picture), name=clean(it.picture.name), before=it.before.text, after=clean(it.after)
            )
            for it in changed[:_SHOWN]
        ],
        token=_token(changed),
    )


def apply(album: Album, pictures: Sequence[Picture], request: BulkApply, journal: Journal) -> BulkDone:
    """Carry out exactly the changes that were previewed.

    Raises:
        Refusal: captions have changed since the preview, or as `changes_of` does.
    """
    with album.lock:
        changed, _ = changes_of(album, pictures, request)
        if _token(changed) != request.token:
            raise Refusal(409, "Captions have changed since the preview. Preview the change again.")
        if not changed:
            return BulkDone(num_changed=0, undo=journal.newest())
        for it in changed:
            check_text(it.after, it.picture.name)
        step = write_changed(album, changed, journal, _words(request))
        return BulkDone(num_changed=len(changed), undo=step)


def write_changed(album: Album, changed: Sequence[Changed], journal: Journal, what: str) -> UndoStep:
    """Write captions that can be undone. The caller holds `lock` of the album."""
    step = journal.begin(what, [_former(it) for it in changed])
    _write_all(album, [(it.picture, it.after) for it in changed])
    album.forget()
    return step


def undo(album: Album, journal: Journal, id_: str) -> Undone:
    """Bring back the texts before the last change in bulk; captions that were edited since stay.

    Raises:
        Refusal: it was not the last change.
    """
    with album.lock:
        pictures: Mapping[str, Picture] = album.pictures()
        restored: list[tuple[Picture, str]] = []
        kept: list[str] = []
        num_deleted = 0
        for former in journal.texts(id_):
            picture = pictures.get(former.name)
            now = album.caption(picture, is_fresh=True) if picture is not None else None
            if picture is None or now is None or now.tag not in (former.after, former.tag):
                kept.append(former.name)
            elif now.tag == former.tag:
                continue  # it was never written
            elif former.before is not None:
                restored.append((picture, former.before))
            elif (path := album.caption_path(picture)) is not None:
                delete_file(path)
                num_deleted += 1
        _write_all(album, restored)
        album.forget()
        journal.end(id_)
        num_restored = len(restored) + num_deleted
        return Undone(num_restored=num_restored, kept=list(map(clean, kept[:_NAMED])), num_kept=len(kept))


def _write_all(album: Album, texts: Sequence[tuple[Picture, str]]) -> None:
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(lambda pair: album.write(*pair), texts))


def _former(it: Changed) -> Former:
    has_file = it.before.tag != ""
    return Former(it.picture.name, it.before.text if has_file else None, it.before.tag, tag_of(it.after))


def _made(texts: Sequence[str], request: BulkRequest) -> list[str]:
    if request.action == "replace":
        return replaced(texts, request.find, request.text, is_regex=request.is_regex, has_case=request.has_case)
    if not request.text.strip():
        raise Refusal(422, "Enter the text to add.", "text")
    if request.action == "prefix":
        return [text if text.startswith(request.text) else request.text + text for text in texts]
    if request.action == "suffix":
        return [text if text.endswith(request.text) else text + request.text for text in texts]
    word = request.text.strip()
    return [text if word.casefold() in text.casefold() else f"{word}, {text}" if text else word for text in texts]


def _words(request: BulkRequest) -> str:
    """What a change did, for the button that takes it back."""
    if request.action == "replace":
        return f'"{request.find[:60]}" replaced by "{request.text[:60]}"'
    return f'{request.action} "{request.text.strip()[:60]}" added'


def check_text(text: str, name: str) -> None:
    """Raises Refusal if a text cannot be a caption."""
    if "\0" in text:
        raise Refusal(422, f"The caption of {name} contains a zero byte. Remove it.", "text")
    length = len(text.encode())  # half a character is refused as text that cannot be read
    if length > MAX_BYTES:
        what = f"The caption of {name} has {length:,} bytes, of {MAX_BYTES:,} at most. Shorten it."
        raise Refusal(422, what, "text")


def _token(changed: Sequence[Changed]) -> str:
    digest = hashlib.sha256()
    for it in changed:
        digest.update(f"{it.picture.name}\0{it.before.tag}\0{it.after}\0\0".encode("utf-8", "replace"))
    return digest.hexdigest()[:32]
