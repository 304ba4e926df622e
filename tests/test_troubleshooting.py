"""docs/troubleshooting.md: its messages are ours, its keys exist, and what it says of the tiny model happens."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from jobs.job import Job
from tests.tiny import ROOT, run_job, write_job
from tests.toolkit.output.test_lock import hold_elsewhere
from toolkit.config import load_job
from toolkit.config.job import job_sections
from toolkit.errors import JobError, UserError

DOC = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [
    line for block in re.findall(r"^```text\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
KEYS = sorted(set(re.findall(r"`((?:train|model|save|sample|network|datasets\[\])\.\w+)\b", DOC)))
OPTIONS = sorted(set(re.findall(r"`(?:python run\.py[^`]*)?(--[a-z][a-z-]+)", DOC)) - {"--gpus"})
SAMPLE = {"samples": [{"prompt": "a picture"}]}


@functools.cache
def texts() -> tuple[str, ...]:
    """All texts in our code, with a line break where a value is filled in."""
    found = []
    for folder in ("toolkit", "jobs", "extensions_built_in"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "\n" for part in node.values)
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_of_ours(message: str) -> None:
    parts = [part.strip(" :") for part in message.split("...") if part.strip(" .:,()")]
    assert parts, f"nothing of {message!r} could be looked for"
    missing = [part for part in parts if not any(part in text for text in texts())]
    assert not missing, f"no text of ours has {missing}"


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_the_document_exists(key: str) -> None:
    section, name = key.split(".")
    fields = job_sections()[f"config.process[].{section}"].model_fields
    assert name in fields


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_the_document_exists(option: str) -> None:
    assert f'"{option}"' in (ROOT / "jobs" / "options.py").read_text(encoding="utf-8")


def test_the_stages_that_can_be_full_are_those_of_the_plan(tmp_path: Path) -> None:
    table = re.findall(r"^\| ([a-z ]+) \|", DOC, re.MULTILINE)
    lines = "\n".join(Job(load_job(write_job(tmp_path, train={"disable_sampling": False}, sample=SAMPLE))).check())
    for phase in table:
        assert phase == "phase" or re.search(rf"^ *{phase}\b", lines, re.MULTILINE), f"no phase {phase}"


def test_a_card_that_is_too_small_is_refused_with_what_makes_it_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)memory: the job needs .* GB on the card .*Any of these makes it fit:"):
        Job(load_job(_klein(tmp_path)), vram_gb=8).check()


def _klein(folder: Path) -> Path:
    released = {"arch": "flux2_klein_4b", "name_or_path": "black-forest-labs/FLUX.2-klein-base-4B"}
    return write_job(folder, model=released, train={"dtype": "bf16"}, datasets=_large(folder))


def _large(folder: Path) -> list[dict[str, object]]:
    return [{"folder_path": str(folder / "images"), "resolution": 1024}]


def test_a_card_that_is_not_there_is_named(tmp_path: Path) -> None:
    job = write_job(tmp_path, device="cuda:7")
    lines = "\n".join(Job(load_job(job)).check())
    assert re.search(r"device: cuda:7 is not available; torch sees \d+ CUDA devices", lines)


@pytest.mark.slow  # runs jobs
def test_a_diverged_run_keeps_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = write_job(
        tmp_path, train={"steps": 200, "optimizer": "adagrad", "lr": 1e30, "max_grad_norm": 0}, save={"save_every": 1}
    )
    assert run_job(job).status == "failed"
    shown = capsys.readouterr()
    said = r"The loss is (nan|inf) in each of the last 10 steps, up to step \d+: training has diverged"
    assert re.search(said, shown.out + shown.err)
    assert (tmp_path / "output" / "job" / "state").is_dir()


@pytest.mark.slow  # runs jobs
def test_another_rate_is_named_and_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = write_job(tmp_path, train={"steps": 1})
    assert run_job(job).status == "done"
    assert run_job(job, None, "train.lr=1e-4").status == "refused"
    assert "settings that shape the training have changed since it was written:" in capsys.readouterr().err
    assert run_job(job).status == "done"
    assert "all 1 steps are done; raise train.steps to train further" in capsys.readouterr().out
    output = tmp_path / "output" / "job"
    with hold_elsewhere(output) as other:
        assert run_job(job).status == "failed"
        other.kill()
    assert f"{output} is in use by process {other.pid}" in capsys.readouterr().err
    for path in output.glob("state/*/weights.safetensors"):
        path.write_bytes(b"rot")
    assert run_job(job).status == "refused"
    assert "has checkpoints, but none that can be resumed:" in capsys.readouterr().err


def test_a_drive_that_is_too_small_is_refused_with_the_keys_that_need_less(tmp_path: Path) -> None:
    all_kept = {"save_every": 1, "max_step_saves_to_keep": 0, "max_states_to_keep": 0}
    job = write_job(tmp_path, save=all_kept, train={"steps": 10**9})
    said = r"training_folder: .* needs up to .* for checkpoints, but its drive has .* lower save\.max_states_to_keep"
    with pytest.raises(UserError, match=said):
        Job(load_job(job)).check()


def test_a_misspelt_key_is_refused_with_the_valid_one(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"(?s)has 1 mistake\n.*train\.lrr: unknown key .*Did you mean `lr`\?"):
        load_job(write_job(tmp_path, train={"lrr": 1}))


@pytest.mark.parametrize(
    ("arch", "weights", "said"),
    [
        ("flux2_klein_4b", "FLUX.2-klein-4B", "this is the distilled .* train black-forest-labs/FLUX.2-klein-base-4B"),
        ("flux2", "FLUX.2-dev", r"sample\.neg: has no effect here"),
    ],
)
def test_a_setting_that_spoils_the_result_is_told_before_the_start(
    arch: str, weights: str, said: str, tmp_path: Path
) -> None:
    model = {"arch": arch, "name_or_path": f"black-forest-labs/{weights}"}
    sample = {**SAMPLE, "neg": "ugly", "guidance_scale": 4}
    (notice,) = load_job(write_job(tmp_path, model=model, train={"dtype": "bf16"}, sample=sample)).notices
    assert re.search(said, notice)


def test_images_without_a_caption_are_named(tmp_path: Path) -> None:
    job = write_job(tmp_path, trigger_word="zorbo")
    (tmp_path / "images" / "0.txt").unlink()
    lines = "\n".join(Job(load_job(job)).check())
    assert 'without a caption, trained with "zorbo"' in lines
