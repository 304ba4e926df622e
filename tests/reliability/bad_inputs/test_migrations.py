"""`python -m toolkit.migrate` on files that are no jobs, and on jobs that make no sense: named, and nothing written."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.reliability.bad_inputs.battery import expect_exit
from tests.reliability.bad_inputs.test_job_files import JSON, YAML
from toolkit.migrate.__main__ import main

KIND = "migrations"
ARCHS = ("flux2", "flux", "flux2_klein_4b")
# Processes of the right outline with something else where a section, a list or a text belongs.
PROCESSES = [
    "3",
    "{model: []}",
    "{model: {}}",
    "{model: {arch: [a]}}",
    "{model: {arch: {a: 1}}}",
    "{model: {arch: 3}}",
    "{model: {arch: flux3}}",
    "{model: {arch: flux, is_flux: {a: 1}, quantize: [1], qtype: [1], model_paths: 3}}",
    "{model: {arch: flux, name_or_path: 2020-01-01}}",
    "{model: {arch: flux, 3: 4}, 1: 2, null: 3}",
    "{model: {arch: flux2}, network: 3, train: [], sample: 5, datasets: 7}",
    "{model: {arch: flux2}, datasets: [3, null], sample: {samples: 3}}",
    "{model: {arch: flux2}, datasets: {a: 1}, sample: {samples: {a: 1}, neg: [1]}, train: {timestep_type: [1]}}",
    "{model: {arch: flux2}, sample: {samples: [3, [1], {guidance_scale: {}}]}, network: {network_kwargs: 3}}",
    "{model: {arch: flux2}, network: {pretrained_lora_path: 3, network_kwargs: {only_if_contains: 3}}}",
]


def migrated(content: str | bytes, name: str, folder: Path, to: str) -> int:
    """The exit code; without a new job where it is not 0, and with the old one as it was."""
    source, output = folder / name, folder / f"new_{name}"
    raw = content if isinstance(content, bytes) else content.encode()
    source.write_bytes(raw)
    code = expect_exit(KIND, lambda: main([str(source), "--to", to, "--output", str(output)]))
    assert source.read_bytes() == raw
    assert output.exists() == (code == 0)
    output.unlink(missing_ok=True)
    return code


@pytest.mark.parametrize(("table", "name"), [(YAML, "job.yaml"), (JSON, "job.json")], ids=["yaml", "json"])
def test_a_file_that_is_no_job_is_named_and_nothing_is_written(
    table: dict[str, tuple[str | bytes, str]], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, (content, words) in table.items():
        if kind == "20,000 unknown keys":
            continue  # slow to parse, and a matter of the job's check
        assert migrated(content, name, tmp_path, "flux2") == 2, kind
        shown = capsys.readouterr()
        assert not shown.out
        assert str(tmp_path) in shown.err
        known = words in shown.err or "is not a list of processes" in shown.err
        assert known, f"{kind}: {shown.err:.300}"


@pytest.mark.parametrize("to", ARCHS)
def test_a_job_that_makes_no_sense_is_named_or_rewritten(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [f"{{name: x, process: [{process}]}}" for process in PROCESSES]
    configs += ["3", "[]", "{process: null}", "{name: x, process: {a: 1}}", "{name: [x], process: [{model: {}}]}"]
    for config in configs:
        text = f"job: extension\nconfig: {config}\n"
        as_json = json.dumps(yaml.safe_load(text), default=str)
        for content, name in ((text, "job.yaml"), (as_json, "job.json")):
            code = migrated(content, name, tmp_path, to)
            shown = capsys.readouterr()
            assert code in (0, 2)
            assert str(tmp_path) in (shown.err if code else shown.out)
            assert "Traceback" not in shown.err


def test_a_secret_in_a_job_is_neither_shown_nor_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = "hf_" + "Q7x" * 11
    model = f"{{arch: flux, name_or_path: 'https://user:{token}@huggingface.co/a/b'}}"
    text = f"job: extension\nconfig: {{name: x, process: [{{model: {model}}}]}}\n"
    assert migrated(text, "job.yaml", tmp_path, "flux2") == 2
    shown = capsys.readouterr()
    assert "looks like a secret" in shown.err
    assert token not in shown.out + shown.err


def test_places_that_are_no_job_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name in ("folder.yaml", "loop.yaml", "absent.yaml", "x" * 300, "a\0b"):
        output = tmp_path / "new.yaml"
        command = [str(tmp_path / name), "--to", "flux2", "--output", str(output)]
        assert expect_exit(KIND, partial(main, command)) == 2
        assert capsys.readouterr().err
        assert not output.exists()
