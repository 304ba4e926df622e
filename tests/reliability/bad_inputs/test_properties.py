"""Readers under inputs that nobody thought of: only our own errors, whatever the bytes.

BAD_INPUT_EXAMPLES=10000 tries more of them.
"""

from __future__ import annotations

import json
import os
import string
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability.bad_inputs.battery import attempt, expect_result
from tests.reliability.bad_inputs.test_stored import bundles_of
from tests.reliability.bad_inputs.test_tensor_files import lora_bytes
from toolkit.config.job import job_sections
from toolkit.config.reading.installed import find_known
from toolkit.config.reading.load import check_job
from toolkit.config.reading.parse import parse_file, parse_value
from toolkit.data.captions.files import read_caption
from toolkit.data.captions.texts import plain
from toolkit.data.captions.variants import put_trigger
from toolkit.data.sources.find import list_images
from toolkit.errors import JobError, UserError
from toolkit.lora.files import read_lora_file
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors
from toolkit.weights.tensor_index import index_tensors

EXAMPLES = int(os.environ.get("BAD_INPUT_EXAMPLES", "60"))
KEYS = sorted({key for section in job_sections().values() for key in section.model_fields})
KNOWN = find_known()

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="BAD_INPUT_EXAMPLES" not in os.environ,  # the same examples for everybody who changes something
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(KEYS) | st.text(alphabet=string.ascii_lowercase + "_", max_size=12)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=20
)
yaml_like = st.text(alphabet=st.sampled_from(list(" \n\t:-[]{}#&*!|>'\"%@`,?abz019.~<=_\\\0é\ufeff🦊")), max_size=120)


def refused_with(path: Path, action: Callable[[], object]) -> None:
    """The reader gives a result, or an error that names the file."""
    outcome = attempt("made by hypothesis", action)
    assert not isinstance(outcome, UserError) or path.name in str(outcome)


@many
@given(
    content=st.binary(max_size=200) | yaml_like.map(str.encode) | trees.map(lambda tree: yaml.safe_dump(tree).encode())
)
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_any_bytes_are_a_job_or_an_error(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"job{suffix}"
    path.write_bytes(content)
    refused_with(path, lambda: parse_file(path))


@many
@given(tree=st.dictionaries(st.sampled_from(["job", "config", "meta"]) | names, trees, max_size=4), process=trees)
def test_any_tree_is_a_job_or_an_error(tree: dict[str, Any], process: Any) -> None:
    wrapped = {**tree, "config": {"name": "x", "process": [process]}}
    for given_tree in (tree, wrapped):
        outcome = attempt("made by hypothesis", partial(check_job, given_tree, path=Path("job.yaml"), known=KNOWN))
        assert not isinstance(outcome, UserError) or isinstance(outcome, JobError)


@many
@given(key=names, value=yaml_like | st.text())
def test_any_override_is_a_value_or_an_error(key: str, value: str) -> None:
    tree: dict[str, Any] = {"config": {"process": [{"train": {}}]}}
    job = Path("job.yaml")
    attempt("made by hypothesis", lambda: check_job(tree, path=job, known=KNOWN, overrides=[f"train.{key}={value}"]))
    try:
        parse_value(value)
    except ValueError as error:
        assert len(str(error)) < 1000


@many
@given(content=st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_a_plain_caption_or_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    caption = attempt("made by hypothesis", lambda: read_caption(path))
    if isinstance(caption, str):
        assert caption == plain(caption) and "\r" not in caption
        assert "fox" in put_trigger(caption, "fox", must_have=True)


@many
@given(content=st.binary(max_size=200) | trees.map(lambda tree: json.dumps(tree).encode()) | yaml_like.map(str.encode))
def test_any_bytes_are_a_dataset_list_or_name_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(content)
    listing = attempt("made by hypothesis", lambda: list_images(path))
    assert not isinstance(listing, UserError)
    assert listing.images or listing.problems
    assert all(str(tmp_path) in problem.where for problem in listing.problems)


@many
@given(
    header=st.binary(max_size=200) | trees.map(lambda tree: json.dumps(tree).encode()),
    length=st.none() | st.integers(0, 2**64 - 1),
    data=st.binary(max_size=64),
)
def test_any_header_is_a_safetensors_file_or_an_error(
    header: bytes, length: int | None, data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    for read in (read_tensors, read_lora_file, lambda p: index_tensors([p])):
        refused_with(path, partial(read, path))


@many
@given(data=st.data())
def test_any_entry_of_a_header_is_read_or_an_error(data: st.DataObject, tmp_path: Path) -> None:
    numbers = st.integers(0, 12) | st.sampled_from([-1, 2**31, 2**32, 2**63, 2**64, 1.5, None, "8"])
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "F8_E4M3", "I64", "U8", "BOOL", "F4", "C64", "f32", ""]),
            "shape": st.lists(numbers, max_size=3),
            "data_offsets": st.lists(numbers, max_size=3) | st.sampled_from([[0, 8], [8, 16], [0, 0]]),
        }
    )
    header = json.dumps(data.draw(st.dictionaries(st.sampled_from("abc"), entry, max_size=3))).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(data.draw(st.sampled_from([0, 8, 16]))))
    for read in (read_tensors, lambda p: index_tensors([p])):
        refused_with(path, partial(read, path))


@many
@given(data=st.data())
def test_any_change_to_a_lora_file_is_read_or_an_error(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(lora_bytes(tmp_path))
    place = data.draw(st.integers(0, 400))
    content[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    refused_with(path, lambda: read_lora_file(path))


@many
@given(content=st.binary(max_size=200) | trees.map(lambda tree: json.dumps(tree).encode()))
def test_any_manifest_is_passed_over_or_valid(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "000000010"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    valid, reasons = expect_result("made by hypothesis", lambda: bundles_of(tmp_path))
    assert len(valid) + len(reasons) == 1


@many
@given(data=st.data())
def test_any_likely_manifest_is_passed_over_or_valid(data: st.DataObject, tmp_path: Path) -> None:
    facts = st.fixed_dictionaries({"bytes": scalars, "sha256": scalars}) | trees
    files = st.dictionaries(st.text(max_size=8) | st.just("state/000000010/a"), facts, max_size=3) | trees
    content = {"step": data.draw(st.just(10) | scalars), "files": data.draw(files), "versions": data.draw(trees)}
    folder = tmp_path / "state" / "000000010"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    valid, reasons = expect_result("made by hypothesis", lambda: bundles_of(tmp_path))
    assert len(valid) + len(reasons) == 1


@many
@given(lines=st.lists(st.binary(max_size=60) | trees.map(lambda tree: json.dumps(tree).encode()), max_size=6))
def test_any_event_log_is_read(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert all(isinstance(event, dict) for event in list(read_events(path)))
