"""The battery U6: what is sent to a dataset is there whole under its own name, or not at all."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ui.server.conftest import Site
from toolkit import files
from ui.server.datasets import upload, zips
from ui.server.datasets.album import Album
from ui.server.datasets.library import OWN
from ui.server.datasets.upload import receive
from ui.server.datasets.zips import unzip
from ui.server.refusal import Refusal
from ui.server.roots import Roots

RAW = {"content-type": "application/octet-stream"}
TEN_GB = 10_000_000_000


def picture(kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(content, kind)
    return content.getvalue()


@pytest.fixture
def album(tmp_path: Path) -> Album:
    (tmp_path / "cats").mkdir()
    return Album(tmp_path / "cats", Roots((tmp_path,)))


def send(album: Album, name: str, content: bytes, length: int | None = None) -> str:
    return receive(album, album.folder / OWN, name, iter([content]), length)


def send_zip(album: Album, content: bytes) -> Any:
    return unzip(album, album.folder / OWN, iter([content]), len(content))


def zipped(entries: dict[str, bytes], pack: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", pack) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return content.getvalue()


def names(album: Album) -> list[str]:
    """Every file of the dataset, also those that are on their way."""
    return sorted(path.relative_to(album.folder).as_posix() for path in album.folder.rglob("*") if path.is_file())


def refused(call: Callable[[], Any], status: int, says: str = "") -> None:
    with pytest.raises(Refusal) as caught:
        call()
    words = " ".join(problem.what for problem in caught.value.problems)
    assert (caught.value.status, says in words) == (status, True), words


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_a_picture_arrives_as_it_was_sent(album: Album, kind: str) -> None:
    content = picture(kind)
    name = send(album, f"a.{kind.lower()}", content, len(content))
    assert ((album.folder / name).read_bytes(), names(album)) == (content, [name])
    assert list(album.pictures()) == [name]


def test_the_api_takes_files_and_only_as_what_they_are(site: Site) -> None:
    id_ = site.client.post("/api/datasets", json={"name": "cats"}).json()["id"]
    url = f"/api/datasets/{id_}"
    assert site.client.put(f"{url}/files/ä b.png", content=picture(), headers=RAW).json() == {"name": "ä b.png"}
    assert site.client.put(f"{url}/files/ä b.txt", content=b"teal", headers=RAW).status_code == 200
    (row,) = site.client.get(f"{url}/files").json()["pictures"]
    assert (row["text"], row["width"], row["height"]) == ("teal", 40, 30)
    assert site.client.put(f"{url}/zip", content=zipped({"b.png": picture()}), headers=RAW).json()["num_pictures"] == 1
    assert site.client.put(f"{url}/files/c.png", content=picture()).status_code == 415
    answer = site.client.put(f"{url}/files/c.png", content=picture(), headers=RAW | {"Authorization": "Bearer x"})
    assert answer.status_code == 401
    answer = site.client.put(f"{url}/files/c.png", content=b"x", headers=RAW | {"content-length": str(TEN_GB)})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert sorted(path.name for path in (site.folder / "datasets" / "cats").glob("*.*")) == [
        OWN,
        "b.png",
        "ä b.png",
        "ä b.txt",
    ]


def test_what_is_too_large_is_refused_before_and_while_it_is_sent(album: Album, monkeypatch: Any) -> None:
    def endless() -> Iterator[bytes]:
        yield picture()
        while True:
            taken.append(1)
            yield bytes(1 << 20)

    taken: list[int] = []
    own = album.folder / OWN
    refused(lambda: receive(album, own, "a.png", endless(), TEN_GB), 413)
    refused(lambda: unzip(album, own, endless(), TEN_GB), 413)
    assert taken == []
    monkeypatch.setattr(upload, "MAX_FILE_BYTES", 5_000_000)
    refused(lambda: receive(album, own, "a.png", endless(), None), 413)
    refused(lambda: receive(album, own, "a.txt", iter([b"x" * 50_000] * 3), None), 413)
    assert (len(taken), names(album)) == (5, [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", picture("JPEG")),
        ("a.jpg", b"<svg onload=alert(1)>"),
        ("a.webp", b"MZ" + bytes(100)),
        ("a.png", b""),
        ("a.txt", picture()),
        ("a.txt", "é".encode("latin-1")),
        ("a.svg", b"<svg/>"),
        ("a.png.exe", picture()),
        ("a", picture()),
        (".png", picture()),
        ("../a.png", picture()),
        ("con.png", picture()),
        ("a\0.png", picture()),
        ("a" * 201 + ".png", picture()),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(album: Album, name: str, content: bytes) -> None:
    refused(lambda: send(album, name, content), 422)
    assert names(album) == []


def test_twins_are_refused_in_every_spelling_and_nothing_is_replaced(album: Album) -> None:
    first = picture()
    composed = unicodedata.normalize("NFC", "é.png")
    send(album, composed, first)
    (album.folder / "B.PNG").write_bytes(first)
    (album.folder / "B.TXT").write_text("theirs", encoding="utf-8")
    for name in (composed, unicodedata.normalize("NFD", composed), composed.upper(), "b.png", "B.png", "b.jpg"):
        content = picture("JPEG" if name.endswith("jpg") else "PNG")
        refused(partial(send, album, name, content), 409)
    refused(lambda: send(album, "b.txt", b"mine"), 409, "b.txt")
    assert names(album) == ["B.PNG", "B.TXT", composed]
    assert (album.folder / "B.TXT").read_text(encoding="utf-8") == "theirs"
    (album.folder / "B.PNG").unlink()
    assert send(album, "b.jpg", picture("JPEG")) == "b.jpg"


@pytest.mark.parametrize("kind", ["interrupted", "too short", "full"])
def test_what_does_not_arrive_whole_leaves_nothing(album: Album, kind: str, monkeypatch: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield picture()
        raise Refusal(422, "The upload was interrupted.")

    class Full(files.Disk):
        def write(self, handle: int, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    own = album.folder / OWN
    if kind == "interrupted":
        refused(lambda: receive(album, own, "a.png", broken(), None), 422)
    elif kind == "too short":
        refused(lambda: send(album, "a.png", picture(), len(picture()) + 1), 422)
    else:
        monkeypatch.setattr(files, "disk", Full())
        with pytest.raises(OSError, match="No space"):
            send(album, "a.png", picture())
    assert names(album) == []


def test_a_disk_that_would_be_full_and_too_many_files_are_refused(album: Album, monkeypatch: Any) -> None:
    free = shutil.disk_usage(album.folder).free
    monkeypatch.setattr(upload, "KEPT_FREE", free + 10**9)
    refused(lambda: send(album, "a.png", picture()), 409, "free")
    monkeypatch.setattr(upload, "KEPT_FREE", 0)
    monkeypatch.setattr(upload, "MOST_FILES", 2)
    send(album, "a.png", picture())
    refused(lambda: send(album, "b.png", picture()), 409, "at most")


def test_a_zip_file_brings_its_pictures_and_captions_and_nothing_else(album: Album) -> None:
    content = zipped(
        {
            "set/": b"",
            "set/a.png": picture(),
            "set/a.txt": b"teal",
            "set/notes.md": b"x",
            "__MACOSX/set/._a.png": b"x",
            "set/.hidden.png": b"x",
        }
    )
    found = send_zip(album, content)
    assert (found.num_pictures, found.num_captions, found.num_skipped) == (1, 1, 3)
    assert names(album) == ["a.png", "a.txt"]


def _link() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo("a.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return content.getvalue()


def _encrypted() -> bytes:
    content = bytearray(zipped({"a.png": picture()}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def _long_list() -> bytes:
    """It says that its list of files takes 2 GB."""
    content = bytearray(zipped({"a.png": picture()}))
    struct.pack_into("<L", content, content.rindex(b"PK\x05\x06") + 12, 2_000_000_000)
    return bytes(content)


ZIPS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "slip": (422, lambda: zipped({"ok.png": picture(), "../../evil.png": picture()})),
    "absolute": (422, lambda: zipped({"/tmp/evil.png": picture()})),
    "backslash": (422, lambda: zipped({"..\\evil.png": picture()})),
    "drive": (422, lambda: zipped({"C:/evil.png": picture()})),
    "link": (422, _link),
    "encrypted": (422, _encrypted),
    "long list": (413, _long_list),
    "bomb": (422, lambda: zipped({"a.png": picture() + bytes(5_000_000)}, zipfile.ZIP_DEFLATED)),
    "twins": (409, lambda: zipped({"a/x.png": picture(), "b/X.PNG": picture(), "ok.png": picture()})),
    "one caption for two": (409, lambda: zipped({"x.png": picture(), "x.jpg": picture("JPEG")})),
    "wrong magic": (409, lambda: zipped({"ok.png": picture(), "a.png": b"MZ and more"})),
    "bad caption": (409, lambda: zipped({"ok.png": picture(), "a.txt": b"\xff\xfe\xff"})),
    "no pictures": (422, lambda: zipped({"a.md": b"x"})),
    "torn": (422, lambda: zipped({"a.png": picture()})[:-30]),
    "damaged": (409, lambda: zipped({"a.png": picture()}).replace(b"IDAT", b"IDAX", 1)),
    "no zip": (422, lambda: b"PK\x03\x04 but no more"),
    "not at all": (422, picture),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_file_with_anything_wrong_brings_nothing(album: Album, name: str) -> None:
    status, make = ZIPS[name]
    refused(lambda: send_zip(album, make()), status)
    assert names(album) == []
    assert sorted(path.name for path in album.folder.parent.iterdir()) == ["cats"]


def test_a_zip_file_that_holds_a_name_of_the_dataset_brings_nothing(album: Album) -> None:
    send(album, "a.png", picture())
    refused(lambda: send_zip(album, zipped({"A.png": picture(), "b.png": picture()})), 409, "A.png")
    assert names(album) == ["a.png"]


def test_a_zip_file_of_which_one_file_cannot_be_placed_brings_nothing(album: Album, monkeypatch: Any) -> None:
    class Failing(files.Disk):
        def rename(self, source: Path, target: Path) -> None:
            if target.name == "b.png":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().rename(source, target)

    monkeypatch.setattr(zips, "disk", Failing())
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        send_zip(album, zipped({f"{name}.png": picture() for name in "abc"}))
    assert names(album) == []


def test_limits_of_a_zip_file_hold_for_all_of_it(album: Album, monkeypatch: Any) -> None:
    content = zipped({f"{index}.png": picture() for index in range(5)})
    monkeypatch.setattr(zips, "MOST_FILES", 4)
    refused(lambda: send_zip(album, content), 413)
    monkeypatch.setattr(zips, "MOST_FILES", 10)
    monkeypatch.setattr(zips, "LARGEST_TOTAL", 3 * len(picture()))
    refused(lambda: send_zip(album, content), 413)
    assert names(album) == []


def test_what_a_killed_server_left_is_swept_and_never_shown(album: Album) -> None:
    incoming = album.folder / OWN / "incoming"
    incoming.mkdir(parents=True)
    (incoming / ".part-00000000-999999-1-abc.png").write_bytes(b"half")
    os.utime(incoming / ".part-00000000-999999-1-abc.png", (1, 1))
    upload._swept.discard(incoming)
    send(album, "a.png", picture())
    assert names(album) == ["a.png"]
