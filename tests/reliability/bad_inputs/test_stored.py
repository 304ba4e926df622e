"""What the trainer has stored itself, come to harm: caches, bundles, optimizer states, event logs."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.reliability.bad_inputs.battery import expect_error, expect_result
from toolkit.encode.cache import TensorCache
from toolkit.encode.encodings import Encodings
from toolkit.encode.packing import pack
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.stored.state import load_optimizer_tensors, optimizer_tensors
from toolkit.output.bundles import find_bundles
from toolkit.output.events import EventLog, read_events
from toolkit.train.tasks.checkpoint import write_bundle

Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut in the header": lambda path: os.truncate(path, 20),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "last bytes zero": lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)),
    "first bytes turned": lambda path: path.write_bytes(path.read_bytes()[7::-1] + path.read_bytes()[8:]),
    "text": lambda path: path.write_bytes(b"not what it was"),
    "pickle": lambda path: torch.save({"tensor": torch.ones(3)}, path),
}
TENSORS = {
    "latents": {"tensor": torch.arange(64.0).reshape(4, 4, 4)},
    "embeddings": pack(torch.randn(20, 64, generator=torch.Generator().manual_seed(0)).bfloat16()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", TENSORS)
def test_a_damaged_cache_entry_is_reported_and_made_again(kind: str, damage: str, tmp_path: Path) -> None:
    told: list[str] = []
    cache = TensorCache(tmp_path, on_damage=told.append)
    cache.put("key", TENSORS[kind])
    DAMAGES[damage](cache.path("key"))
    assert expect_result("damaged caches", lambda: cache.get("key")) is None
    assert "key.safetensors" in told[0]
    assert "computed again" in told[0]
    cache.put("key", TENSORS[kind])
    found = cache.get("key")
    assert found is not None
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS[kind].items())


def test_a_flipped_bit_anywhere_in_a_cache_entry_is_found(tmp_path: Path) -> None:
    cache, draw = TensorCache(tmp_path), random.Random(0)
    cache.put("key", TENSORS["latents"])
    whole = cache.path("key").read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        cache.path("key").write_bytes(data)
        found = expect_result("damaged caches", lambda: cache.get("key"))
        assert found is None or torch.equal(found["tensor"], TENSORS["latents"]["tensor"])


def test_a_cache_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path / "cache")
    cache.path("key").mkdir(parents=True)
    expect_error("damaged caches", lambda: cache.get("key"), str(cache.path("key")), "delete it")
    expect_error("damaged caches", lambda: cache.put("key", TENSORS["latents"]), str(cache.folder), "cannot be written")
    (tmp_path / "file").write_text("")
    blocked = TensorCache(tmp_path / "file" / "cache")
    expect_error("damaged caches", lambda: blocked.put("key", TENSORS["latents"]), "cannot be written", "permissions")


def test_an_entry_that_disappears_during_the_run_is_named(tmp_path: Path) -> None:
    encodings = Encodings(print, overflow=tmp_path / "overflow")
    encodings.add("key", lambda: torch.ones(2, 2), folder=tmp_path)
    encodings.settle()
    (tmp_path / "key.safetensors").unlink()
    expect_error("damaged caches", lambda: encodings["key"], "key.safetensors", "Start the job again")


# Bundles


def bundles_of(folder: Path) -> tuple[list[int], list[str]]:
    """Steps of the valid bundles, and why others were skipped."""
    valid, passed_over = find_bundles(folder)
    return [bundle.step for bundle in valid], [str(reason) for reason in passed_over]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with the bundles of steps 5 and 10."""
    for step in (5, 10):
        weights = tmp_path / f"cat_{step}.safetensors"
        weights.write_bytes(b"weights for the user")
        parts = {"weights": {"a": torch.full((4,), float(step))}, "optimizer": {"0.step": torch.tensor(float(step))}}
        write_bundle(tmp_path, step=step, parts=parts, output_files=(weights,), facts={"job": "cat"})
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["manifest.json", "weights.safetensors", "optimizer.safetensors"])
def test_a_damaged_bundle_is_passed_over_with_the_reason(file: str, damage: str, run_folder: Path) -> None:
    DAMAGES[damage](run_folder / "state" / "000000010" / file)
    valid, reasons = expect_result("damaged bundles", lambda: bundles_of(run_folder))
    if (file, damage) != ("manifest.json", "one byte short"):  # which was the line end: nothing is lost
        assert valid == [5]
        assert len(reasons) == 1


CONTENTS = {
    "list": "[]",
    "number": "3",
    "null": "null",
    "empty object": "{}",
    "nested too deeply": "[" * 100_000,
    "number of 5000 digits": '{"step": ' + "9" * 5000 + "}",
    "files that are a list": '{"step": 10, "files": [1]}',
    "files that are a number": '{"step": 10, "files": 3}',
    "a file without facts": '{"step": 10, "files": {"state/000000010/weights.safetensors": {}}}',
    "a file that is a text": '{"step": 10, "files": {"state/000000010/weights.safetensors": "x"}}',
    "a file outside": '{"step": 10, "files": {"../../etc/passwd": {"bytes": 1, "sha256": "x"}}}',
    "an absolute file": '{"step": 10, "files": {"/etc/passwd": {"bytes": 1, "sha256": "x"}}}',
    "a name with a zero byte": '{"step": 10, "files": {"a\\u0000b": {"bytes": 1, "sha256": "x"}}}',
    "a name with half a character": '{"step": 10, "files": {"\\ud800": {"bytes": 1, "sha256": "x"}}}',
    "a step that is a text": '{"step": "ten", "files": {}}',
    "another step": '{"step": 11, "files": {}}',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_manifest_that_makes_no_sense_is_passed_over(name: str, run_folder: Path) -> None:
    (run_folder / "state" / "000000010" / "manifest.json").write_text(CONTENTS[name])
    valid, reasons = expect_result("damaged bundles", lambda: bundles_of(run_folder))
    assert valid == [5]
    assert len(reasons) == 1


def test_strange_things_beside_the_bundles_disturb_nobody(run_folder: Path) -> None:
    state = run_folder / "state"
    for name in ("10", "000000007", "0x", "1e3", "²", "notes", "000000010 (copy)"):
        (state / name).mkdir(exist_ok=True)
    (state / "000000003").write_text("a file")
    (state / "loop").symlink_to(state)
    os.mkfifo(state / "pipe")
    valid, _ = expect_result("damaged bundles", lambda: bundles_of(run_folder))
    assert valid == [5, 10]


# Optimizer states


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_state_of_other_weights_is_refused(kind: str) -> None:
    def stepped(*shapes: tuple[int, ...]) -> torch.optim.Optimizer:
        parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer = build_optimizer(kind, parameters, lr=1e-3, options={})
        optimizer.step()
        return optimizer

    own = stepped((40, 30), (7,))
    expect_result("optimizer states", lambda: load_optimizer_tensors(own, optimizer_tensors(stepped((40, 30), (7,)))))
    own.step()
    for other in (stepped((400, 30), (7,)), stepped((40, 30), (7,), (3,))):
        state = optimizer_tensors(other)
        expect_error("optimizer states", partial(load_optimizer_tensors, own, state), "another name")
    for key in ("x.step", "", "-1.step", "99.step", "1e3.exp_avg", "²"):
        state = {key: torch.tensor(1.0)}
        expect_error("optimizer states", partial(load_optimizer_tensors, own, state), "another name")


# Event logs

LINES = {
    "cut": b'{"time": 1, "kind": "st',
    "empty line": b"\n",
    "zeros": bytes(500),
    "binary": bytes(range(256)),
    "list": b"[1]\n",
    "number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}\n",
    "nested too deeply": b"[" * 100_000 + b"\n",
    "half a character": b'{"kind": "\\ud800"}\n',
    "1 MB without end": b"x" * 1_000_000,
}


@pytest.mark.parametrize("name", LINES)
def test_a_damaged_event_log_loses_no_other_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = json.dumps({"kind": "first"}).encode() + b"\n"
    path.write_bytes(first + LINES[name])
    with EventLog(path) as events:
        events.write("done")
    found = expect_result("damaged event logs", lambda: [event["kind"] for event in read_events(path)])
    assert (found[0], found[-1]) == ("first", "done")
    assert expect_result("damaged event logs", lambda: len(list(read_events(path)))) <= 3
