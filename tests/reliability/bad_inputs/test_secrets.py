"""Secrets: in no file that a run writes and on no screen, wherever a job got them from."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import run
from tests.reliability.bad_inputs.battery import expect_error
from tests.tiny import write_job
from toolkit.config import load_job

HUB, WANDB, OWN = "hf_" + "Q7x" * 11, "9f" * 20, "hunter2-of-my-own"


def places_of(secret: str, folder: Path) -> list[str]:
    """Files below a folder whose bytes or names hold the secret."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in paths if secret.encode() in path.read_bytes() or secret in str(path)]


def test_no_secret_is_in_anything_that_a_run_leaves_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sections = {
        "model": {"quantize": True, "qtype": "qfloat8", "quantize_cache": str(tmp_path / "output" / "quantized")},
        "trigger_word": "fox${WANDB_API_KEY}",
        "log_dir": str(tmp_path / "output" / "curves"),
        "train": {"steps": 2, "disable_sampling": False, "cache_text_embeddings": True},
        "save": {"save_every": 1},
        "sample": {"prompts": ["a [trigger] ${MY_PASSPHRASE} --w 32 --h 32"], "sample_every": 1, "sample_steps": 1},
    }
    path = write_job(tmp_path, name="tiny", **sections)
    job = yaml.safe_load(path.read_text())
    job["config"]["process"][0]["datasets"][0] |= {"default_caption": "${HF_TOKEN}", "cache_latents_to_disk": True}
    job["meta"] = {"note": "made with ${HF_TOKEN}", "more": {"inner": ["${MY_PASSPHRASE}"]}, "key": WANDB}
    (tmp_path / "images" / "0.txt").unlink()  # takes the default caption
    (tmp_path / "images" / "1.txt").write_text("long [trigger] " * 600)  # a notice quotes where it is cut
    path.write_text(yaml.safe_dump(job))
    (tmp_path / ".env").write_text(f"HF_TOKEN={HUB}\n")
    monkeypatch.setenv("HF_TOKEN", "to be put back afterwards")
    monkeypatch.delenv("HF_TOKEN")  # .env sets it
    monkeypatch.setenv("WANDB_API_KEY", WANDB)
    monkeypatch.setenv("MY_PASSPHRASE", OWN)
    monkeypatch.chdir(tmp_path)
    command = [str(path), "--log", str(tmp_path / "output" / "log.txt")]
    monkeypatch.setattr(sys, "argv", ["run.py", *command, "--set", f"trigger_word={OWN} {WANDB} {HUB}"])
    before = os.umask(0)
    try:
        assert run.main(command) == 0
        assert run.main([*command, "--from-step", "1"]) == 0
        assert run.main(["--status", str(tmp_path / "output" / "tiny")]) == 0
    finally:
        os.umask(before)
    names = [path.name for path in (tmp_path / "output").rglob("*")]
    assert {"superseded", "runs.jsonl", "manifest.json", "dataset.json", "events.jsonl", "curves"} <= set(names)
    assert any(name.startswith("flux2_tiny") and "qfloat8" in name for name in names)
    files = [path for path in (tmp_path / "output" / "tiny").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666}  # the umask is what says who may read
    written = [path.suffix for path in (tmp_path / "output").rglob("*")]
    assert {".safetensors", ".jsonl", ".yaml", ".json", ".jpg", ".txt"} <= set(written)
    shown = capfd.readouterr()
    assert "it is cut after" in shown.out + shown.err
    for secret in (HUB, WANDB, OWN):
        assert secret not in shown.out + shown.err
        assert places_of(secret, tmp_path / "output") == []
        assert places_of(secret, tmp_path / "images") == []
    stored = (tmp_path / "output" / "tiny" / "config.yaml").read_text()
    assert "fox${WANDB_API_KEY}" in stored
    assert "key: ${WANDB_API_KEY}" in stored


# Keys of other programs and of the imagination, with a secret written out.
WRITTEN = [
    {"hf_token": HUB},
    {"wandb_api_key": WANDB},
    {"logging": {"wandb_api_key": WANDB}},
    {"save": {"hf_token": HUB}},
    {"save": {"push_to_hub": True, "token": HUB}},
    {"trigger_word": HUB},
    {"model": {"name_or_path": f"https://user:{HUB}@huggingface.co/a/b", "arch": "flux2_tiny"}},
    {"device": HUB},
]


@pytest.mark.parametrize("sections", WRITTEN, ids=lambda sections: str(sections)[:30])
def test_a_secret_written_into_a_job_file_is_refused_and_not_shown(sections: dict[str, Any], tmp_path: Path) -> None:
    path = write_job(tmp_path, **sections)
    text = expect_error("secrets in job files", lambda: load_job(path), str(path), "looks like a secret", ".env")
    assert HUB not in text
    assert WANDB not in text


def test_a_secret_in_meta_is_refused_by_its_shape_or_its_name(tmp_path: Path) -> None:
    path = write_job(tmp_path)
    for meta in ({"note": f"token {HUB}"}, {"wandb": {"api_key": WANDB}}):
        job = yaml.safe_load(path.read_text()) | {"meta": meta}
        path.write_text(yaml.safe_dump(job))
        text = expect_error("secrets in job files", lambda: load_job(path), "meta", "looks like a secret")
        assert HUB not in text
        assert WANDB not in text


def test_keys_that_only_sound_like_secrets_are_shown_as_before(tmp_path: Path) -> None:
    path = write_job(tmp_path, trigger_word="token", datasets=[{"folder_path": str(tmp_path), "keep_tokens": -1}])
    assert "secret" not in expect_error("secrets in job files", lambda: load_job(path), "keep_tokens")
