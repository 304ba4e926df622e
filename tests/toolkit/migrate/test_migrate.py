"""Jobs are rewritten for another model: what changes, what stays, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.errors import JobError
from toolkit.migrate.__main__ import main
from toolkit.migrate.findings import Change
from toolkit.migrate.migrate import migrate

JOB = """\
---
job: extension
config:
  # the folder's name
  name: "my_first_flux_lora_v1"
  process:
    - type: 'sd_trainer'
      training_folder: "output"
      network:
        type: "lora"
        linear: 16
        linear_alpha: 16
      save:
        dtype: float16 # precision to save
      datasets:
        - folder_path: "{images}"
          resolution: [ 512, 768, 1024 ]  # several sizes
      train:
        steps: 2000
        train_unet: true
        noise_scheduler: "flowmatch" # for training only
        optimizer: "adamw8bit"
        lr: 1e-4
      model:
        name_or_path: "black-forest-labs/FLUX.1-dev"
        is_flux: true
        quantize: true  # 8 bits
      sample:
        prompts:
          - "a photo of [trigger]"
        guidance_scale: 4
        sample_steps: 20
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A FLUX.1 job as people have them, on a folder that exists."""
    path = tmp_path / "old.yaml"
    path.write_text(JOB.format(images=tmp_path), encoding="utf-8")
    return path


def _with(job: Path, section: str, line: str) -> Path:
    """The job with one line more in a section of its process."""
    job.write_text(job.read_text().replace(f"      {section}:\n", f"      {section}:\n        {line}\n"))
    return job


@pytest.mark.parametrize("arch", ["flux2", "flux2_klein_9b", "flux2_klein_4b"])
def test_the_new_job_is_valid_and_trains_the_new_model(job: Path, arch: str) -> None:
    assert main([str(job), "--to", arch]) == 0
    model = load_job(job.with_name(f"old_{arch}.yaml")).training().model
    assert (model.arch, model.name_or_path) == (arch, find_cards()[arch].source)


def test_every_change_is_explained(job: Path) -> None:
    output = job.with_name("new.yaml")
    findings = migrate(job, output, to=find_cards()["flux2"], cards=find_cards())
    told = {finding.where for finding in findings if isinstance(finding, Change)}
    before, after = (_flat(yaml.safe_load(path.read_text())["config"]) for path in (job, output))
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert {key.removeprefix("process.0.").replace("name", "config.name", key == "name") for key in changed} == told


def test_comments_and_order_of_what_stays_are_kept(job: Path) -> None:
    main([str(job), "--to", "flux2_klein_4b"])
    text = job.with_name("old_flux2_klein_4b.yaml").read_text()
    for comment in ("# the folder's name", "# precision to save", "# several sizes", "# for training only", "# 8 bits"):
        assert comment in text
    assert text.index("network:") < text.index("save:") < text.index("datasets:") < text.index("sample:")


def test_the_old_file_is_left_alone_and_the_new_one_is_not_replaced_unasked(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = job.read_bytes()
    assert main([str(job), "--to", "flux2"]) == 0
    assert main([str(job), "--to", "flux2"]) == 2
    assert "already exists. Give another --output, or use --force" in capsys.readouterr().err
    assert main([str(job), "--to", "flux2", "--force"]) == 0
    assert job.read_bytes() == before


def test_the_name_changes_so_that_two_models_never_share_a_state_folder(job: Path) -> None:
    main([str(job), "--to", "flux2"])
    assert load_job(job.with_name("old_flux2.yaml")).config.name == "my_first_flux_lora_v1_flux2"


def test_a_larger_model_is_held_in_fewer_bits_and_a_smaller_one_is_not(job: Path) -> None:
    for arch in ("flux2", "flux2_klein_4b"):
        main([str(job), "--to", arch])
    assert load_job(job.with_name("old_flux2.yaml")).training().model.qtype == "qint4"
    assert load_job(job.with_name("old_flux2_klein_4b.yaml")).training().model.qtype == "qfloat8"


@pytest.mark.parametrize(
    ("section", "line", "what"),
    [
        ("network", "pretrained_lora_path: old.safetensors", "which has other layers"),
        ("network", "network_kwargs: {only_if_contains: [single_transformer_blocks.7]}", "names layers of FLUX.1"),
    ],
)
def test_what_cannot_carry_over_is_refused_and_nothing_is_written(
    job: Path, capsys: pytest.CaptureFixture[str], section: str, line: str, what: str
) -> None:
    assert main([str(_with(job, section, line)), "--to", "flux2_klein_4b"]) == 2
    assert what in capsys.readouterr().err
    assert not job.with_name("old_flux2_klein_4b.yaml").exists()


def test_a_mistake_of_the_old_file_is_named_and_left_for_the_user_to_mend(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(_with(job, "train", "noise_offset: 0.1")), "--to", "flux2_klein_4b"]) == 0
    assert "To fix, as in the old file: config.process[0].train.noise_offset" in capsys.readouterr().out
    assert "noise_offset: 0.1" in job.with_name("old_flux2_klein_4b.yaml").read_text()


def test_references_are_refused_by_a_model_that_takes_none(job: Path) -> None:
    text = job.read_text().replace("    resolution: [", "    control_path: .\n          resolution: [")
    job.write_text(text.replace("FLUX.1-dev", "FLUX.2-dev").replace("is_flux: true", "arch: flux2"))
    with pytest.raises(JobError, match="takes no reference images"):
        migrate(job, job.with_name("new.yaml"), to=find_cards()["flux"], cards=find_cards())


def test_parts_of_the_old_model_are_removed(job: Path) -> None:
    _with(job, "model", "assistant_lora_path: ostris/FLUX.1-schnell-training-adapter")
    main([str(job), "--to", "flux2_klein_4b"])
    assert "assistant_lora_path" not in job.with_name("old_flux2_klein_4b.yaml").read_text()


def test_a_json_job_stays_json(job: Path) -> None:
    path = job.with_suffix(".json")
    path.write_text(json.dumps(yaml.safe_load(job.read_text())))
    assert main([str(path), "--to", "flux2_klein_9b"]) == 0
    written = json.loads(path.with_name("old_flux2_klein_9b.json").read_text())
    assert written["config"]["process"][0]["model"]["arch"] == "flux2_klein_9b"


def test_a_job_without_a_known_model_is_refused(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job.write_text(job.read_text().replace("is_flux: true", "arch: sdxl"))
    assert main([str(job), "--to", "flux2"]) == 2
    assert "config.process[0].model.arch: is not a known model (sdxl)" in capsys.readouterr().err


def _flat(tree: object, path: str = "") -> dict[str, object]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    if not items:
        return {path: tree}
    return {name: leaf for key, value in items for name, leaf in _flat(value, f"{path}.{key}".lstrip(".")).items()}


def test_a_rate_for_prodigy_is_not_called_a_fair_start(job: Path, tmp_path: Path) -> None:
    job.write_text(job.read_text(encoding="utf-8").replace("lr: 1e-4", "lr: 1"), encoding="utf-8")
    found = [
        str(finding) for finding in migrate(job, tmp_path / "new.yaml", to=find_cards()["flux2"], cards=find_cards())
    ]
    assert any("Not a good starting point: the learning rate of 1." in text for text in found)
    assert not any("learning rate (1)" in text for text in found)
