"""Datasets that are not a plain folder: lists, tars and tables."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from toolkit.config.dataset import DatasetConfig
from toolkit.data import Scan, scan_datasets
from toolkit.data.image_files import ImageCache
from toolkit.data.images import load_image
from toolkit.data.sources.find import list_images

MakeImage = Callable[..., Path]
ScanFolder = Callable[..., Scan]
COLORS = ("red", "lime", "blue")


def scan(source: Path, **fields: Any) -> Scan:
    dataset = DatasetConfig.model_validate({"folder_path": source, "resolution": 64, **fields})
    return scan_datasets([dataset], divisor_px=16, trigger_word=None)


def captions(found: Scan) -> dict[str, str]:
    assert found.problems == ()
    return {example.path.name: example.caption for example in found.examples}


def png(color: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(data, "PNG")
    return data.getvalue()


def tar(path: Path, files: Mapping[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def table(**columns: list[Any]) -> pyarrow.Table:
    images = [{"bytes": png(color), "path": None} for color in COLORS]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    return pyarrow.table({"image": pyarrow.array(images, kind), **columns})


def stream(path: Path, content: pyarrow.Table) -> Path:
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)
    return path


def corner(example: Any) -> tuple[int, ...]:
    pixel = load_image(example, background=(0, 0, 0)).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_subfolders_count_only_where_they_are_asked_for(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption="a")
    make_image("masks/a.png", caption="mask")
    found = scan_folder()
    assert captions(found) == {"a.png": "a"}
    assert any("1 image in subfolders, not used (set `recursive: true`" in notice for notice in found.notices)
    assert len(scan_folder(recursive=True).examples) == 2


def test_a_folder_with_images_in_subfolders_alone_says_what_to_set(
    make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("sub/a.png")
    (problem,) = scan_folder().problems
    assert "but 1 in its subfolders: set `recursive: true`" in problem.what


def test_images_that_metadata_names_count_wherever_they_are(folder: Path, make_image: MakeImage) -> None:
    make_image("sub/a.png")
    make_image("sub/b.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "sub/a.png", "text": "a", "width": 64}\n')
    found = scan(folder)
    assert captions(found) == {"a.png": "a"}
    assert any("keys of entries that are not used: width (1)" in notice for notice in found.notices)


def test_a_list_of_json_lines_gives_images_and_captions(folder: Path, make_image: MakeImage) -> None:
    for name in ("a.png", "b.png"):
        make_image(name)
    lines = [
        {"image_path": "a.png", "caption": ["a", "A"], "control_path": "x.png"},
        {"file_name": str(folder / "b.png"), "text": "b"},
    ]
    source = folder / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    found = scan(source)
    assert captions(found) == {"a.png": "a", "b.png": "b"} and found.examples[0].variants == ("a", "A")
    assert any("not used: control_path (1)" in notice for notice in found.notices)


def test_kohyas_metadata_names_images_without_their_extension(folder: Path, make_image: MakeImage) -> None:
    paths = [make_image(name) for name in ("a.png", "b.jpg")]
    content = {
        str(paths[0].with_suffix("")): {"caption": "a cat", "tags": "cat, grass", "train_resolution": [64, 64]},
        "b": {"tags": "dog"},
    }
    source = folder / "meta_lat.json"
    source.write_text(json.dumps(content))
    assert captions(scan(source)) == {"a.png": "a cat, cat, grass", "b.jpg": "dog"}


def test_a_tar_of_samples_is_read_without_unpacking_it(folder: Path) -> None:
    files = {f"{color}.png": png(color) for color in COLORS}
    files |= {"red.txt": b"a red one\n", "lime.json": b'{"caption": "lime", "score": 1}', "red.cls": b"3"}
    source = tar(folder / "shard.tar", {**files, "blue.txt": b"a blue one"})
    found = scan(source)
    assert captions(found) == {"red.png": "a red one", "lime.png": "lime", "blue.png": "a blue one"}
    assert [corner(example) for example in found.examples] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert any("not used: .cls (1), score (1)" in notice for notice in found.notices)
    assert captions(scan(folder)) == captions(found)
    assert sorted(path.name for path in folder.iterdir()) == ["shard.tar"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: tar(path, {"a.png": png("red")}, "w:gz"), "not an uncompressed tar"),
        (lambda path: tar(path, {"a.txt": b"x"}), "contains no images"),
        (lambda path: tar(path, {"a.png": b"x", "a.jpg": b"x"}), "several images of one name: a.png, a.jpg"),
        (lambda path: path.write_bytes(b"x" * 2000), "or is damaged"),
        (
            lambda path: path.write_bytes(tar(path, {"a.png": b"x" * 9000}).read_bytes()[:3000]),
            "unexpected end of data",
        ),
        (lambda path: tar(path, {"a.png": png("red"), "a.txt": b"\xff"}), "byte 0 is not UTF-8"),
    ],
)
def test_a_tar_that_cannot_be_used_says_why(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "x.tar")
    (problem,) = list_images(tmp_path / "x.tar").problems
    assert words in problem.what and problem.where.startswith(str(tmp_path / "x.tar"))


def test_an_unreadable_image_in_a_tar_is_named(tmp_path: Path) -> None:
    source = tar(tmp_path / "x.tar", {"a.png": png("red")[:-30], "a.txt": b"a"})
    (problem,) = scan(source).problems
    assert problem.where == str(source / "a.png") and "cannot be read" in problem.what


def test_a_changed_tar_is_read_again(tmp_path: Path) -> None:
    cache, source = ImageCache(), tar(tmp_path / "x.tar", {"a.png": png("red")})
    first = cache.inspect(source / "a.png")
    tar(source, {"b.png": png("blue"), "a.png": png("blue")})
    assert cache.inspect(source / "a.png").content_hash != first.content_hash


@pytest.mark.parametrize("kind", ["parquet", "small groups", "arrow", "saved", "columns of bytes"])
def test_tables_of_images_and_captions_are_read(tmp_path: Path, kind: str) -> None:
    content = table(text=["r", "g", "b"], label=[1, 2, 3])
    source = tmp_path / "x.parquet"
    if kind == "arrow":
        source = stream(tmp_path / "x.arrow", content)
    elif kind == "saved":  # as `save_to_disk` does, in two files
        parts = [content.slice(0, 2), content.slice(2)]
        names = [stream(tmp_path / f"data-{n:05d}-of-00002.arrow", part).name for n, part in enumerate(parts)]
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        source = tmp_path
    elif kind == "columns of bytes":
        pyarrow.parquet.write_table(pyarrow.table({"jpg": list(map(png, COLORS)), "caption": list("rgb")}), source)
    else:
        pyarrow.parquet.write_table(content, source, row_group_size=1 if kind == "small groups" else 100)
    found = scan(source)
    assert found.problems == () and [example.caption for example in found.examples] == ["r", "g", "b"]
    assert [corner(example) for example in found.examples] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_a_table_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"x" * 100)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "text.parquet")
    saved = tmp_path / "saved"
    (saved / "train").mkdir(parents=True)
    (saved / "train" / "state.json").write_text("{}")
    (saved / "dataset_dict.json").write_text('{"splits": ["train"]}')
    for name, words in (
        ("broken.parquet", "or is damaged"),
        ("text.parquet", "no column of images; its columns are: text"),
        ("saved", "has the splits train: name one"),
        ("saved/train", "does not name the files of a table"),
    ):
        (problem,) = list_images(tmp_path / name).problems
        assert words in problem.what


def test_without_the_package_a_table_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow.parquet.write_table(table(), tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    (problem,) = list_images(tmp_path / "x.parquet").problems
    assert "pip install pyarrow==" in problem.what
