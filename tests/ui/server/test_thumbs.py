"""Small copies of pictures, as files that browsers read while others ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ui.server.refusal import Refusal
from ui.server.views.thumbs import Thumbs


def test_a_small_copy_is_written_once_and_again_only_when_it_is_torn_or_the_picture_has_changed(tmp_path: Path) -> None:
    """A copy that is written over while a browser reads it ends short of its length."""
    thumbs, picture = Thumbs(tmp_path), tmp_path / "a.png"
    Image.new("RGB", (600, 300), "red").save(picture)
    small = thumbs.file(picture, 128)
    with Image.open(small) as image:
        assert image.size == (128, 64)
    first = small.stat()
    again = thumbs.file(picture, 128)
    assert (again, again.stat().st_ino, again.stat().st_mtime_ns) == (small, first.st_ino, first.st_mtime_ns)

    small.write_bytes(small.read_bytes()[:-1])
    with Image.open(thumbs.file(picture, 128)) as image:
        assert image.size == (128, 64)
    Image.new("RGB", (300, 600), "blue").save(picture)
    assert thumbs.file(picture, 128) != small

    picture.write_text("no picture")
    with pytest.raises(Refusal, match=r"a\.png can't be shown"):
        thumbs.file(picture, 128)
