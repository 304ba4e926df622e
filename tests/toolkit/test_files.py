"""Files are whole or not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit.files import sha256_file, sha256_json, sweep_temporary, whole_file, write_bytes, write_json, write_text

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX modes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_has_its_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "file.bin", b"content")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.bin"]
    assert (tmp_path / "new" / "file.bin").read_bytes() == b"content"


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@posix_only
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "lora.safetensors") as temporary:
            save_file({"a": torch.ones(2)}, temporary)  # replaces the file by one of mode 0600
    finally:
        os.umask(before)
    assert mode(tmp_path / "lora.safetensors") == expected
    assert load_file(tmp_path / "lora.safetensors")["a"].tolist() == [1, 1]


@posix_only
@pytest.mark.parametrize("old_mode", [0o640, 0o444])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, old_mode: int) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    path.chmod(old_mode)
    write_text(path, "new")
    assert (path.read_text(), mode(path)) == ("new", old_mode)


def test_text_keeps_its_line_ends_and_letters(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "grün\nzwei\n")
    assert (tmp_path / "a.txt").read_bytes() == "grün\nzwei\n".encode()


def test_json_is_readable_and_ends_with_a_line_end(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "grün", "steps": 3})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "grün",\n  "steps": 3\n}\n'


def test_concurrent_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_bytes, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    script = "import os, sys\nfrom pathlib import Path\nfrom toolkit.files import whole_file\n"
    script += "writer = whole_file(Path(sys.argv[1]))\nwriter.__enter__()\nos._exit(1)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.txt")])
    assert len(list(tmp_path.iterdir())) == 1
    write_text(tmp_path / "b.txt", "kept")
    with whole_file(tmp_path / "c.txt"):
        assert sweep_temporary(tmp_path) == 1, "the file of a live writer is left alone"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", "c.txt"]


def test_what_another_machine_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    old, new, former = tmp_path / ".part-00000000-1-1-ab", tmp_path / ".part-00000000-2-2-cd", tmp_path / ".part-abcdef"
    for path in (old, new, former):
        path.touch()
    for path in (old, former):
        os.utime(path, (time.time() - 100_000, time.time() - 100_000))
    assert sweep_temporary(tmp_path) == 2
    assert list(tmp_path.iterdir()) == [new]


def test_hashes_are_those_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
    assert sha256_json({"a": 1, "b": [2, 3]}) == sha256_json({"b": (2, 3), "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
