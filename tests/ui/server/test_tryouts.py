"""Trying out LoRAs: files, the job that draws with them, its grid, and keeping one."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.toolkit.report.finished import finished_run
from tests.ui.server.conftest import TINY, Site
from toolkit.output.events import EventLog


def _lora(path: Path, *, step: int | None = None, key: str = "a.lora_A.weight") -> Path:
    """A file with one number under a key, and a header like that of a saved one."""
    said = {} if step is None else {"training_info": json.dumps({"step": step}), "ss_base_model_version": "flux2_tiny"}
    header = {key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": said}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<f", 1.0))
    return path


def _run(site: Site) -> str:
    """The id of a finished run with two checkpoints."""
    folder = finished_run(site.folder / "output" / "cats")
    _lora(folder / "cats_000000020.safetensors", step=20)
    _lora(folder / "cats.safetensors", step=40)
    site.client.put("/api/settings", json={"training_folder": str(site.folder / "output")})
    return str(site.services.registry.add(folder).id)


def _request(site: Site, run: str, **changes: Any) -> dict[str, Any]:
    loras = [str(site.output("cats") / name) for name in ("cats_000000020.safetensors", "cats.safetensors")]
    request = {"run": run, "name": "try", "prompts": ["a", " ", "b"], "loras": loras, "has_base": True}
    request |= {"strengths": [0.5, 1.0], "seeds": [1, 2], "width": 32, "height": 48, "sample_steps": 2}
    return {**request, "guidance_scale": 3.5, **changes}


def test_lora_files_are_found_with_their_run_and_step_and_nothing_else_is(site: Site) -> None:
    run = _run(site)
    _lora(site.folder / "downloads" / "style.safetensors")
    _lora(site.folder / "downloads" / "loha.safetensors", key="a.hada_w1_a")
    _lora(site.folder / "downloads" / "whole_model.safetensors", key="blocks.0.weight")
    _lora(site.output("cats") / "state" / "000000020" / "weights.safetensors")
    (site.folder / "downloads" / "broken.safetensors").write_bytes(b"\xff" * 20)
    found = site.client.get("/api/loras").json()
    assert not found["is_cut"]
    told = {it["name"]: (it["job_id"], it["step"], it["arch"]) for it in found["loras"]}
    assert told == {
        "cats_000000020": (run, 20, "flux2_tiny"),
        "cats": (run, 40, "flux2_tiny"),
        "style": (None, None, None),
        "loha": (None, None, None),
    }


def test_a_try_out_is_one_job_that_the_check_accepts(site: Site) -> None:
    run = _run(site)
    start = site.client.get("/api/tryouts/start", params={"run": run}).json()
    assert (start["name"], start["sample_steps"] > 0) == ("cats_tryout", True)
    assert start["prompts"] == ["a <b>cat</b> & a </script>"]
    answer = site.client.post("/api/tryouts", json=_request(site, run)).json()
    assert answer["num_pictures"] == 2 * 2 * (1 + 2 * 2)
    job = yaml.safe_load(answer["yaml"])
    (process,) = job["config"]["process"]
    assert (job["job"], process["sheet"], process["strengths"]) == ("generate", "grid", [0.0, 0.5, 1.0])
    assert process["model"]["name_or_path"] == str(TINY)
    assert (process["generate"]["prompts"], process["generate"]["seeds"]) == (["a", "b"], [1, 2])
    assert (process["generate"]["height"], process["generate"]["guidance_scale"]) == (48, 3.5)
    id_ = site.client.post("/api/jobs", json={"yaml": answer["yaml"]}).json()["id"]
    assert site.job(id_)["kind"] == "pictures"
    again = site.client.post("/api/tryouts", json=_request(site, run))
    assert again.json()["yaml"] is None
    assert [(it["where"], "already in use" in it["what"]) for it in again.json()["problems"]] == [("name", True)]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"prompts": [" "]}, "prompts"),
        ({"seeds": []}, "seeds"),
        ({"strengths": [0.0]}, "strengths"),
        ({"loras": [], "has_base": False}, "loras"),
        ({"loras": ["/etc/passwd"]}, "loras.0"),
        ({"loras": ["gone.safetensors"]}, "loras.0"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"seeds": list(range(1000)), "prompts": ["a"] * 10}, ""),
        ({"width": 3}, "width"),
        ({"strengths": [99.0]}, "strengths.0"),
        ({"run": None, "arch": "nonsense"}, "arch"),
    ],
)
def test_each_mistake_is_told_with_its_field(site: Site, changes: dict[str, Any], where: str) -> None:
    answer = site.client.post("/api/tryouts", json=_request(site, _run(site)) | changes)
    assert answer.json().get("yaml") is None
    assert where in [it["where"] for it in answer.json()["problems"]]


def test_a_grid_shows_what_is_drawn_and_what_is_not(site: Site) -> None:
    run = _run(site)
    text = site.client.post("/api/tryouts", json=_request(site, run)).json()["yaml"]
    id_ = site.client.post("/api/jobs", json={"yaml": text}).json()["id"]
    url = f"/api/jobs/{id_}/grid"
    assert site.client.get(url).json() == {"columns": [], "rows": [], "cells": [], "num_drawn": 0}
    folder, lora = site.output("try"), str(site.output("cats") / "cats_000000020.safetensors")
    columns = [{"name": "without LoRA", "loras": []}, {"name": "cats x 0.5", "loras": [[lora, 0.5]]}]
    names = [["0001_aaaaaaaa.png", "0002_aaaaaaaa.png"], ["0001_bbbbbbbb.png", "../../secret.png"]]
    rows = [{"prompt": "a", "seed": seed} for seed in (1, 2)]
    with EventLog(folder / "events.jsonl") as log:
        log.write("pictures", columns=columns, rows=rows, files=names)
    picture = next((site.output("cats") / "samples").glob("*.png")).read_bytes()
    (folder / "0001_bbbbbbbb.png").write_bytes(picture)
    grid = site.client.get(url).json()
    assert [(it["name"], it["strength"], it["job_id"], it["step"]) for it in grid["columns"]] == [
        ("without LoRA", None, None, None),
        ("cats_000000020", 0.5, run, 20),
    ]
    assert grid["rows"] == rows and grid["num_drawn"] == 1
    ((none, missing), (file, other)) = grid["cells"]
    assert none is missing is other is None
    assert site.client.get(f"/files/{file}").content == picture
    assert site.client.get(f"/api/jobs/{run}/grid").status_code == 409


def test_a_try_out_takes_as_long_as_earlier_ones_did_with_loading(site: Site) -> None:
    """An earlier one: 20 s until it drew, then two pictures of 5 s at once, and two more."""
    request = _request(site, _run(site), loras=[], strengths=[1.0], seeds=[1])
    text = site.client.post("/api/tryouts", json=request).json()["yaml"]

    def estimated(text: str) -> Any:
        return site.client.post("/api/check", json={"yaml": text}).json()["estimate"]

    assert estimated(text)["basis"].startswith("calculated")
    folder = site.output("before")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text.replace("name: try", "name: before"), encoding="utf-8")
    times = [("job", 100.0), ("pictures", 100.0), *(("sample", 100.0 + after) for after in (30, 30, 40, 40))]
    lines = [json.dumps({"kind": kind, "time": time, "device": "cpu", "path": "x"}) for kind, time in times]
    (folder / "events.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    site.services.registry.add(folder)
    found = estimated(text)
    assert found["basis"] == "based on 1 drawing here, including loading"
    assert found["low_s"] == pytest.approx(0.9 * (20 + 2 * 5)) and found["high_s"] == pytest.approx(1.1 * 30)


def test_a_kept_lora_is_a_whole_copy_and_replaces_nothing(site: Site) -> None:
    _run(site)
    source = site.output("cats") / "cats_000000020.safetensors"

    def keep(name: str, path: Path = source) -> Any:
        return site.client.post("/api/loras/keep", json={"path": str(path), "name": name})

    kept = keep("the best.safetensors").json()
    assert kept["path"] == str(site.folder / "output" / "kept" / "the best.safetensors")
    assert Path(kept["path"]).read_bytes() == source.read_bytes()
    before = Path(kept["path"]).stat()
    for name, status in (("The Best", 409), ("../x", 422), (".x", 422), ("con", 422), ("a\nb", 422), (" ", 422)):
        answer = keep(name)
        assert (answer.status_code, answer.json()["problems"][0]["where"]) == (status, "name"), name
    assert keep("x", site.output("cats") / "config.yaml").json()["problems"][0]["where"] == "path"
    assert keep("x", Path("/etc/passwd")).status_code == 422
    assert [path.name for path in (site.folder / "output" / "kept").iterdir()] == ["the best.safetensors"]
    assert Path(kept["path"]).stat() == before


def test_a_checkpoint_says_what_the_validation_of_its_step_found(site: Site) -> None:
    run = _run(site)
    (final,) = site.client.get(f"/api/jobs/{run}/checkpoints").json()["checkpoints"]
    assert (final["step"], final["is_final"], final["mark"], len(final["samples"])) == (40, True, "alike", 2)
    assert final["validation"] == (
        "Held-out images: error -9.5 % (-11.3 to -7.7 %) against the base model. "
        "Over-fit gap: +49.2 % (+46.2 to +52.2 %)."
    )
    best = site.job(run)["best"]
    assert best.startswith("Best by held-out images: step 20")
