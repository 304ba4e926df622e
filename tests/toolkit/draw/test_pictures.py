"""toolkit.draw.pictures"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from toolkit.config import SampleItem
from toolkit.draw.pictures import data_hash, identity_of, missing, pictures_of

ITEM = SampleItem("a", "", 64, 32, 7, 4.0, 20, 1.0)


def names(items: list[SampleItem], **facts: str) -> list[str]:
    return [picture.file for picture in pictures_of(items, facts, extension="png")]


def test_a_picture_is_named_by_all_that_it_depends_on(tmp_path: Path) -> None:
    reference = tmp_path / "a.png"
    reference.write_bytes(b"one")
    shown = replace(ITEM, references=(reference,))
    plain, other_seed, with_reference = names([ITEM, replace(ITEM, seed=8), shown], model="x")
    assert plain.startswith("0001_") and with_reference.startswith("0003_")
    assert names([ITEM], model="x") == [plain]
    assert names([ITEM], model="y") != [plain]
    assert names([replace(ITEM, seed=8)], model="x")[0].split("_")[1] == other_seed.split("_")[1]
    reference.write_bytes(b"two")
    assert names([ITEM, ITEM, shown], model="x")[2] != with_reference


def test_pictures_with_random_seeds_of_one_prompt_are_different_pictures() -> None:
    random = replace(ITEM, seed=-1)
    one, other = (name.split("_")[1] for name in names([random, random]))
    assert one != other


def test_only_what_is_not_there_is_left_and_each_picture_once(tmp_path: Path) -> None:
    first, second = pictures_of([ITEM, replace(ITEM, seed=8)], {}, extension="png")
    assert missing([first, second, replace(second, column=1)], tmp_path) == (first, second)
    (tmp_path / first.file).touch()
    assert missing([first, second], tmp_path) == (second,)


def test_weights_are_known_by_their_files(tmp_path: Path) -> None:
    path = tmp_path / "model" / "a.safetensors"
    path.parent.mkdir()
    assert identity_of(Path("owner/model")) == identity_of(path.parent) == []
    save_file({"w": torch.ones(3)}, path, {"note": "a"})
    before, content = identity_of(path.parent), data_hash(path)
    assert before == identity_of(path) and len(before) == 1
    save_file({"w": torch.ones(3)}, path, {"note": "a longer header"})
    assert identity_of(path) != before
    assert data_hash(path) == content == hashlib.sha256(torch.ones(3).numpy().tobytes()).hexdigest()
