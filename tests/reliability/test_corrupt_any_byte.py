"""Every file of a bundle, cut, flipped, blanked and exchanged: no damage may go unnoticed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reliability.bundles import passed_over, valid_steps
from tests.reliability.cases import Case
from tests.reliability.fork_server import ForkServer, Start
from tests.reliability.results import Results
from tests.reliability.scale import SEED, count

CUTS, FLIPPED_BITS, BLANKED_BLOCKS = count(24, long=64), count(80, long=256), count(8, long=16)  # in each file
BLOCK_BYTES = 64
CASE = Case("lora", "adamw", has_ema=True, accumulation=1, number=2)  # keeps the states of steps 4 and 8
OLDER, NEWEST = 4, 8
Damage = tuple[str, bytes]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, smallest_model: Path, servers: list[ForkServer]) -> Path:
    """The folder of a run that is done."""
    folder = tmp_path_factory.mktemp("done")
    assert servers[0].run(Start(CASE.write(folder, smallest_model), "run")).how == "done"
    assert valid_steps(folder / "output" / "job") == [OLDER, NEWEST]
    return folder / "output" / "job"


def _cut(content: bytes, draw: random.Random) -> Iterator[Damage]:
    for size in {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(CUTS - 2))}:
        yield f"cut to {size} bytes", content[:size]


def _flip(content: bytes, draw: random.Random) -> Iterator[Damage]:
    for _ in range(FLIPPED_BITS):
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        yield f"bit {bit} of byte {place} flipped", _put(content, place, bytes([content[place] ^ (1 << bit)]))


def _blank(content: bytes, draw: random.Random) -> Iterator[Damage]:
    for _ in range(BLANKED_BLOCKS):
        place = draw.randrange(max(1, len(content) - BLOCK_BYTES))
        blanked = _put(content, place, bytes(min(BLOCK_BYTES, len(content) - place)))
        if blanked != content:
            yield f"{BLOCK_BYTES} bytes from {place} are zero", blanked


def _put(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + piece + content[place + len(piece) :]


DAMAGES: dict[str, Callable[[bytes, random.Random], Iterator[Damage]]] = {"cut": _cut, "flip": _flip, "blank": _blank}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_bundle_is_passed_over_for_the_one_before(kind: str, output: Path, results: Results) -> None:
    draw, tried = random.Random(f"{SEED}/{kind}"), 0
    unnoticed = []
    files = sorted((output / "state" / f"{NEWEST:09d}").iterdir())
    assert len(files) >= 4, "weights, optimizer, average, manifest"
    for path in files:
        content = path.read_bytes()
        for what, damaged in DAMAGES[kind](content, draw):
            path.write_bytes(damaged)
            tried += 1
            unnoticed += [f"{path.name}, {what}: {fault}" for fault in _unnoticed(output, path)]
        path.write_bytes(content)
    assert valid_steps(output) == [OLDER, NEWEST]
    results.add("Damaged bundles", **{kind: f"{tried} tried, {len(unnoticed)} unnoticed"})
    assert not unnoticed, "\n".join(unnoticed)


def test_a_file_of_another_bundle_is_noticed(output: Path, results: Results) -> None:
    older, newest = (output / "state" / f"{step:09d}" for step in (OLDER, NEWEST))
    unnoticed = []
    for path in sorted(newest.glob("*.safetensors")):
        content = path.read_bytes()
        assert content != (older / path.name).read_bytes()
        shutil.copy(older / path.name, path)
        unnoticed += _unnoticed(output, path)
        path.write_bytes(content)
    results.add("Damaged bundles", exchange=f"files between bundles, {len(unnoticed)} unnoticed")
    assert not unnoticed, "\n".join(unnoticed)


def test_a_bundle_under_the_name_of_another_step_is_noticed(output: Path) -> None:
    manifest = output / "state" / f"{NEWEST:09d}" / "manifest.json"
    content = manifest.read_bytes()
    manifest.write_text(json.dumps({**json.loads(content), "step": NEWEST + 1}))
    unnoticed = _unnoticed(output, manifest)
    manifest.write_bytes((output / "state" / f"{OLDER:09d}" / "manifest.json").read_bytes())
    unnoticed += _unnoticed(output, manifest)
    manifest.write_bytes(content)
    assert not unnoticed, "\n".join(unnoticed)


def _unnoticed(output: Path, damaged: Path) -> list[str]:
    """What is wrong with how the damage was taken; nothing if noticed and reported in one line with the file."""
    if valid_steps(output) != [OLDER]:
        return [f"valid are {valid_steps(output)}"]
    lines = passed_over(output)
    if len(lines) != 1 or "\n" in lines[0] or damaged.parent.name not in lines[0] or damaged.stem not in lines[0]:
        return [f"told as {lines}"]
    return []
