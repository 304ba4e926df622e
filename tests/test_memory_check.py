"""The memory plan as a user meets it: in the check of a job and at the end of its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.job import Job
from tests.tiny import write_job
from toolkit.config import JobConfig, load_job
from toolkit.errors import UserError
from toolkit.runtime.stop import StopRequest


def job_for(folder: Path, **sections: Any) -> JobConfig:
    return load_job(write_job(folder, **sections))


def test_a_check_shows_the_plan_against_the_machine(tmp_path: Path) -> None:
    text = "\n".join(Job(job_for(tmp_path)).check())
    assert "memory, GB" in text
    assert "this machine" in text
    assert "disk, GB: up to checkpoints" in text


def test_a_check_plans_for_another_card(tmp_path: Path) -> None:
    assert "a card of 2 GB" in "\n".join(Job(job_for(tmp_path), vram_gb=2).check())


def test_a_card_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a card of 0\.5 GB has 0\.5"):
        Job(job_for(tmp_path), vram_gb=0.5).check()


def test_quantized_weights_that_will_be_kept_are_counted_until_they_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "quantized"
    model = {"quantize": True, "qtype": "qint8", "quantize_cache": str(folder)}

    def lines() -> list[str]:
        text = "\n".join(Job(job_for(tmp_path, model=model)).check())
        return [line for line in text.splitlines() if "for later starts" in line]

    (line,) = lines()
    assert "quantized weights 0.0" in line and str(folder) in line
    folder.mkdir()
    for component, qtype in (("transformer", "qint8"), ("text_encoder", "qfloat8")):
        assert lines() != []
        (folder / f"flux2_tiny-{component}-{qtype}-0123.safetensors").touch()
    assert lines() == []


def test_a_drive_without_room_for_quantized_weights_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_050_000_000))
    model = {"quantize": True, "quantize_cache": str(tmp_path / "quantized")}
    text = "\n".join(Job(job_for(tmp_path, model=model)).check())
    assert "warning: quantized weights and checkpoints do not fit" in text
    assert "--no-cache" in text
    assert "quantized" not in "\n".join(Job(job_for(tmp_path, model=model | {"quantize_cache": False})).check())


def test_what_auto_chooses_is_in_the_record_of_the_run(tmp_path: Path) -> None:
    job = job_for(tmp_path, model={"memory": "auto"})
    (checked,) = Job(job).checks()
    assert any("auto chose nothing" in line for line in checked.lines)
    chosen = checked.start.with_model_settings({"quantize": True, "qtype": "qint8"})
    assert "qtype: qint8" in chosen.job.as_written()
    assert (chosen.training.model.qtype, checked.start.training.model.quantize) == ("qint8", False)
    assert "qtype" not in job.as_written()


def test_a_run_puts_predicted_beside_measured_peaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = job_for(tmp_path, train={"steps": 1})
    assert Job(job).run(StopRequest()).status == "done"
    assert " predicted)" in "".join(capsys.readouterr())
    events = (tmp_path / "output" / "job" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    done = [event for event in map(json.loads, events) if event.get("state") == "done"]
    assert {event["name"] for event in done} == {"encode text", "encode images", "train"}
    assert all(event["predicted_ram_bytes"] > 0 for event in done)
