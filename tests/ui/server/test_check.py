"""Checks as someone types, and job texts made from other things."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image, PngImagePlugin

from jobs.check_json import unreadable_facts
from tests.test_architecture import HEAVY
from tests.toolkit.runtime.test_device_probe import ADA, card_machine
from tests.ui.server.conftest import ROOT, Site, wait_for
from toolkit.config import JobConfig, NetworkConfig, SampleItem, load_job
from toolkit.errors import UserError
from toolkit.train.tasks.metadata import file_metadata
from toolkit.train.tasks.sample_info import sample_info
from toolkit.train.tasks.sampling import save_image


def test_a_sound_job_is_reported_whole(site: Site) -> None:
    report = site.client.post("/api/check", json={"yaml": site.text()}).json()
    assert report["ok"], report["problems"]
    assert report["memory"]["fits"] and {"encode text", "train"} <= {it["stage"] for it in report["memory"]["phases"]}
    assert report["datasets"][0]["num_images"] == 4
    assert report["output_folder"] == str(site.output())
    assert report["download_bytes"] == 0 and report["free_disk_bytes"] > 0
    assert report["estimate"]["basis"] == "calculated"
    assert report["disk"]["checkpoints"] > 0


def test_a_recent_refusal_is_repeated_only_for_the_same_parts(site: Site, tmp_path: Path) -> None:
    def config(changes: dict[str, object]) -> JobConfig:
        tree = yaml.safe_load(site.text(train={"steps": changes.pop("steps", 100)}))
        tree["config"]["process"][0]["datasets"][0] |= changes
        path = tmp_path / "asked.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return load_job(path)

    checker, wrong = site.services.checker, unreadable_facts("job.yaml", UserError("no image in it"))
    checker._remember(config({}), wrong)
    assert checker._of_same_parts(config({"steps": 200})) == wrong
    assert checker._of_same_parts(config({"num_repeats": 2})) is None, "other images have to be looked at"


def test_mistakes_have_line_column_and_key(site: Site) -> None:
    text = site.text(train={"lrr": 1}).replace("batch_size: 2", "batch_size: x")
    report = site.client.post("/api/check", json={"yaml": text}).json()
    found = {problem["where"]: problem for problem in report["problems"] if problem["severity"] == "error"}
    lines = text.splitlines()
    for key in ("lrr", "batch_size"):
        problem = found[f"train.{key}"]
        assert lines[problem["line"] - 1].strip().startswith(key)
        assert lines[problem["line"] - 1].index(key) == problem["column"] - 1


def test_a_mistake_with_a_known_remedy_comes_with_the_change_that_mends_it(site: Site) -> None:
    text = site.text(train={"lrr": 1, "optimizer": "adamww", "resolution": 64}, model={"trian": 1})
    text = text.replace("arch: flux2_tiny\n", "arch: flux2_tinny\n")
    report = site.client.post("/api/check", json={"yaml": text}).json()
    fixes = {problem["where"]: problem["fix"] for problem in report["problems"]}
    assert fixes["train.optimizer"] == {"label": "Use adamw", "edits": {"train.optimizer": "adamw"}, "renames": {}}
    assert fixes["model.arch"]["edits"] == {"model.arch": "flux2_tiny"}
    assert fixes["model.trian"] is None
    text = site.text(train={"batchsize": 1, "optimiser": "adamw", "linear": 4})
    report = site.client.post("/api/check", json={"yaml": text}).json()
    fixes = {problem["where"]: problem["fix"] for problem in report["problems"]}
    assert fixes["train.optimiser"] == {
        "label": "Rename to optimizer",
        "edits": {},
        "renames": {"train.optimiser": "optimizer"},
    }
    assert fixes["train.batchsize"] is None  # batch_size is there already
    assert fixes["train.linear"] is None  # and so is network.linear


def test_a_job_that_does_not_fit_and_one_whose_name_is_taken_come_with_a_fix(site: Site) -> None:
    text = site.text(model={"arch": "flux2_klein_4b", "name_or_path": "black-forest-labs/FLUX.2-klein-base-4B"})
    report = site.client.post("/api/check", json={"yaml": text, "vram_gb": 8}).json()
    (problem,) = [it for it in report["problems"] if it["severity"] == "error"]
    assert problem["fix"]["edits"] == report["memory"]["ways"][0]["settings"]
    site.make()
    answer = site.client.post("/api/jobs", json={"yaml": site.text()})
    assert answer.status_code == 409
    assert answer.json()["problems"][0]["fix"]["edits"] == {"config.name": "job_2"}


def test_text_that_is_not_yaml_is_reported_with_its_position(site: Site) -> None:
    report = site.client.post("/api/check", json={"yaml": "job: extension\nconfig: [1,\n"}).json()
    assert not report["ok"] and report["problems"][0]["line"] == 3
    for text in ("", "null", "- 1", "\\ud800", "a: &a [*a]", "{" * 200, "a: !!python/object:os.system x", "\0"):
        for path in ("/api/check", "/api/jobs"):
            body = json.dumps({"yaml": text}).replace("\\\\ud800", "\\ud800")
            answer = site.client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 422) and not answer.json().get("ok")


def test_a_job_that_does_not_fit_comes_with_ways_to_fit(site: Site) -> None:
    report = site.client.post("/api/check", json={"yaml": site.text(), "vram_gb": 0.5}).json()
    assert not report["ok"] and not report["memory"]["fits"]


def test_the_next_run_of_a_kind_is_estimated_from_the_last(site: Site) -> None:
    id_ = site.make(start=True)
    site.wait(id_, "done")
    report = site.client.post("/api/check", json={"yaml": site.text("other")}).json()
    assert report["estimate"]["basis"] == "based on 1 run here"
    again = site.client.post("/api/check", json={"yaml": site.text()}).json()
    assert again["resume_step"] == 6


def test_a_run_on_another_device_says_nothing_of_how_long_this_one_takes(site: Site) -> None:
    site.wait(site.make(start=True), "done")
    record = site.output() / "runs.jsonl"
    text = record.read_text(encoding="utf-8")
    assert '"device": "cpu"' in text
    record.write_text(text.replace('"device": "cpu"', '"device": "NVIDIA H100 80GB HBM3"'), encoding="utf-8")
    wait_for(lambda: site.services.registry.all()[0].runs[-1].resumed["device"] != "cpu")
    report = site.client.post("/api/check", json={"yaml": site.text("other")}).json()
    assert report["estimate"]["basis"] == "calculated"


def test_the_server_loads_no_model_library() -> None:
    script = f"import sys, ui.server.app, ui.server.main\nprint('LOADED', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "LOADED", done.stderr


def test_a_machine_with_a_card_is_checked_without_torch(tmp_path: Path) -> None:
    """Four seconds: the first check of a model's files imports its class, in a process of its own."""
    script = """
import json, sys
from pathlib import Path
from tests.ui.server.conftest import job_text
from ui.server.checks.checker import CheckInputs, Checker
from ui.server.jobs.text import TextFolder
folder = Path(sys.argv[1])
checker = Checker(TextFolder(folder / "texts"))
checker.check(CheckInputs(job_text(folder, "job", device="auto")))
checker._elsewhere = None  # the next one must not need it
facts = checker.check(CheckInputs(job_text(folder, "job", device="auto"))).facts
print(json.dumps([facts["processes"][0]["memory"]["device"], facts["processes"][0]["memory"]["machine"]["name"]]))
print("torch" in sys.modules)
"""
    environment = card_machine(tmp_path, ADA, version=importlib.metadata.version("torch"))
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ['["cuda", "NVIDIA GeForce RTX 4090"]', "False"], done.stderr


def test_our_own_job_and_one_in_json_are_imported(site: Site) -> None:
    answer = site.client.post("/api/import", json={"filename": "a.yaml", "text": site.text()}).json()
    assert answer["yaml"] == site.text()
    text = '{"job": "extension", /* c */ "config": {"name": "x", "process": [{"type": "sd_trainer"}]},}'
    answer = site.client.post("/api/import", json={"filename": "a.jsonc", "text": text}).json()
    assert answer["yaml"].startswith("job: extension\n")


def test_a_job_of_another_model_is_rewritten_and_every_change_is_listed(site: Site) -> None:
    archs = {model["arch"]: model for model in site.client.get("/api/models").json()}
    former = next(arch for arch, model in archs.items() if model["family"] != archs["flux2_tiny"]["family"])
    text = site.text(model={"arch": former, "name_or_path": archs[former]["source"]})
    body = {"filename": "old.yaml", "text": f"# mine\n{text}"}
    assert site.client.post("/api/import", json=body).json()["arch"] == former, "the page offers to convert it"
    body["to"] = "flux2_tiny"
    answer = site.client.post("/api/import", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["changes"] and "arch: flux2_tiny" in found["yaml"] and "# mine" in found["yaml"]
    assert found["arch"] == "flux2_tiny"
    assert site.client.post("/api/import", json=body | {"to": "nonsense"}).status_code == 422


def test_a_lora_file_is_imported_by_its_metadata(site: Site) -> None:
    metadata = {
        "ss_base_model_version": "flux2_tiny",
        "network": json.dumps({"rank": 8, "alpha": 4}),
        "settings": json.dumps({"lr": 0.001, "steps": 5, "seed": 3}),
        "modelspec.trigger_phrase": "zorbo",
    }
    header = json.dumps({"__metadata__": metadata}).encode()
    content = base64.b64encode(struct.pack("<Q", len(header)) + header).decode()
    answer = site.client.post("/api/import", json={"filename": "a.safetensors", "base64": content})
    text = answer.json()["yaml"]
    assert all(it in text for it in ("linear: 8", "linear_alpha: 4", "lr: 0.001", "trigger_word: zorbo", "flux2_tiny"))
    for bad in ("", "AAAA", base64.b64encode(b"\xff" * 20).decode(), "not base64"):
        answer = site.client.post("/api/import", json={"filename": "a.safetensors", "base64": bad})
        assert answer.status_code == 422 and answer.json()["problems"][0]["what"]


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_a_sample_of_the_trainer_becomes_a_job_like_its_own(site: Site, extension: str) -> None:
    item = SampleItem("a red fox", "blurry", 64, 32, 7, 4.0, 20, 1.0)
    metadata = file_metadata(
        job_name="foxes",
        step=300,
        epoch=1,
        base_model="flux2_tiny",
        trigger_word="zorbo",
        meta={},
        network=NetworkConfig(linear=8, linear_alpha=4),
        settings={"lr": 0.001, "steps": 500, "seed": 3, "num_examples": 4},
    )
    path = site.folder / f"sample.{extension}"
    save_image(Image.new("RGB", (64, 32)), path, sample_info(item, 300, metadata))
    body = {"filename": path.name, "base64": base64.b64encode(path.read_bytes()).decode()}
    job = yaml.safe_load(site.client.post("/api/import", json=body).json()["yaml"])["config"]
    (process,) = job["process"]
    assert (job["name"], process["trigger_word"], process["model"]["arch"]) == ("foxes", "zorbo", "flux2_tiny")
    assert process["network"] == {"type": "lora", "linear": 8, "linear_alpha": 4}
    assert (process["train"], process["training_seed"]) == ({"lr": 0.001, "steps": 500}, 3)
    assert process["sample"]["samples"] == [
        {"prompt": "a red fox", "neg": "blurry", "seed": 7, "width": 64, "height": 32}
        | {"guidance_scale": 4.0, "sample_steps": 20, "network_multiplier": 1.0}
    ]


def test_a_sample_picture_is_imported_by_its_settings(site: Site) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a red fox")
    info.add_text("seed", "7")
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG", pnginfo=info)
    body = {"filename": "a.png", "base64": base64.b64encode(content.getvalue()).decode()}
    assert "prompt: a red fox" in site.client.post("/api/import", json=body).json()["yaml"]
    bare = io.BytesIO()
    Image.new("RGB", (8, 8)).save(bare, "PNG")
    body["base64"] = base64.b64encode(bare.getvalue()).decode()
    assert site.client.post("/api/import", json=body).status_code == 422


def test_the_routes_for_models_form_machine_and_settings_answer(site: Site) -> None:
    archs = [model["arch"] for model in site.client.get("/api/models").json()]
    assert "flux2_tiny" in archs
    assert site.client.get("/api/form").status_code in (200, 409)
    machine = site.client.get("/api/machine").json()
    assert machine["ram_bytes"] > 0 and str(site.folder) in machine["roots"]
    assert site.client.put("/api/settings", json={"default_arch": "nonsense"}).status_code == 422
    assert site.client.put("/api/settings", json={"training_folder": "/etc"}).status_code == 422
    folder = str(site.folder / "mine")
    assert site.client.put("/api/settings", json={"training_folder": folder}).json()["training_folder"] == folder
