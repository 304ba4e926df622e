from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.config.reading.installed import find_known
from toolkit.config.reading.load import check_job, find_job_file
from toolkit.config.reading.locations import Location, value_at
from toolkit.config.reading.parse import parse_file
from toolkit.errors import JobError
from toolkit.extension import REPOSITORY

FLUX_JOB = Path(__file__).parent / "flux_job.yaml"


def test_a_job_file_of_ai_toolkit_is_read_unchanged(tmp_path: Path) -> None:
    job = load_job(FLUX_JOB, overrides=[f"datasets.0.folder_path={tmp_path}"])
    process = job.training()
    assert (job.name, process.model.arch, process.model.is_flux2) == ("porcelain_fox", "flux2_klein_4b", True)
    assert (process.train.steps, process.train.lr, process.train.optimizer) == (3000, 1e-4, "adamw8bit")
    assert process.train.optimizer_params.model_dump()["weight_decay"] == 1e-4
    assert process.datasets[0].resolution == (512, 768, 1024)
    assert process.datasets[0].caption_ext == ".txt"
    assert [item.prompt for item in process.sample.items("p0rc")][:1] == ["p0rc on a bookshelf, morning light"]
    assert job.meta == {"name": "porcelain_fox", "version": "1.0"}
    assert {notice.split(":")[0].split(".", 2)[-1] for notice in job.notices} == {
        "performance_log_every",
        "network.conv",
        "network.conv_alpha",
        "logging.use_ui_logger",
        "save.save_format",
        "train.bypass_guidance_embedding",
    }


def test_all_mistakes_are_listed_at_once_in_file_order(job: Tree, process: Tree, problems: Problems) -> None:
    job["config"]["name"] = "a/b"
    process["type"] = "sd_trianer"
    process["network"] = {"rank": 0, "only_if_contains": ["attn"]}
    process["datasets"] = [{"folder_path": "/no/such/folder", "resolution": [512, "big"], "caption_dropout_rate": 2}]
    process["train"] = {"lrr": 1, "steps": "many", "loss_type": "msee", "gradient_checkpointing": "perhaps"}
    process["model"] = {"name_or_path": "./nowhere", "arch": "flux_2"}
    process["tarin"] = {}
    assert problems() == {
        "config.name": '"a/b" cannot be a folder name: use no / \\ < > : " | ? * and no space at either end',
        "type": 'no process type "sd_trianer". Did you mean `sd_trainer`? Known: diffusion_trainer, sd_trainer',
        "network.rank": "needs at least 1 (found 0)",
        "network.only_if_contains": "unknown key (found a list). It belongs in `network.network_kwargs`.",
        "datasets[0].folder_path": 'no folder "/no/such/folder"',
        "datasets[0].resolution[1]": 'needs a whole number (found "big")',
        "datasets[0].caption_dropout_rate": "needs at most 1 (found 2)",
        "train.lrr": "unknown key (found 1). Did you mean `lr`?",
        "train.steps": 'needs a whole number (found "many")',
        "train.loss_type": '"msee" is not known. Did you mean `mse`? Choose mse, mae, huber, smooth_l1 or pseudo_huber',
        "train.gradient_checkpointing": 'needs true or false (found "perhaps")',
        "model.name_or_path": '"./nowhere" is neither an existing path nor a hub id such as owner/name',
        "model.arch": 'no model "flux_2". Did you mean `flux2`? Known: flux2, flux2_small, other',
        "tarin": "unknown key (found keys with values). Did you mean `train`?",
    }
    assert list(problems())[-1] == "tarin"


def test_a_job_says_whether_it_trains_a_lora_or_everything(process: Tree, problems: Problems, check: Check) -> None:
    network = process.pop("network")
    (what,) = problems().values()
    assert "network: {type: lora}" in what
    assert "full_finetune: true" in what
    process["train"]["full_finetune"] = True
    assert check().training().network is None
    process["network"] = network
    assert list(problems()) == ["train.full_finetune"]


def test_an_empty_network_is_a_missing_one(process: Tree, problems: Problems) -> None:
    process["network"] = None
    assert list(problems()) == ["network"]


def test_null_counts_as_not_given(process: Tree, check: Check) -> None:
    process["train"] = {"lr": None, "max_grad_norm": None}
    process["sample"] = None
    train = check().training().train
    assert (train.lr, train.max_grad_norm) == (1e-4, 1.0)


def test_null_does_not_hide_an_unknown_key(process: Tree, problems: Problems) -> None:
    process["train"]["lrr"] = None
    assert list(problems()) == ["train.lrr"]


@pytest.mark.parametrize("missing", ["job", "config"])
def test_a_job_needs_its_top_keys(missing: str, job: Tree, problems: Problems, check: Check) -> None:
    del job[missing]
    if missing == "config":
        assert "missing" in problems()["config"]
    else:
        assert check().job == "extension"


@pytest.mark.parametrize("bad", [5, [], [5], {"a": 1}, None])
def test_a_process_of_the_wrong_kind_is_reported(bad: object, job: Tree, problems: Problems) -> None:
    job["config"]["process"] = bad
    assert len(problems()) == 1


@pytest.mark.parametrize("section", ["network", "train", "model", "datasets", "sample", "save", "logging"])
def test_a_section_that_is_a_value_is_reported(section: str, process: Tree, problems: Problems) -> None:
    process[section] = "much"
    assert 'found "much"' in problems()[section]


def test_other_names_of_keys_are_understood(process: Tree, check: Check) -> None:
    process["network"] = {"rank": 4, "alpha": 2}
    process["train"]["gradient_accumulation_steps"] = 3
    process["datasets"][0]["dataset_path"] = process["datasets"][0].pop("folder_path")
    checked = check().training()
    assert (checked.network.linear, checked.network.linear_alpha, checked.train.gradient_accumulation) == (4, 2, 3)


def test_two_names_of_one_key_may_agree_but_not_differ(process: Tree, check: Check, problems: Problems) -> None:
    process["network"] = {"rank": 4, "linear": 4}
    assert check().training().network.linear == 4
    process["network"]["linear"] = 8
    assert list(problems()) == ["network.rank"]


def test_alpha_is_honoured_with_a_notice_where_it_changes_the_scale(process: Tree, check: Check) -> None:
    process["network"]["alpha"] = 8
    assert check().notices == ()
    process["network"]["alpha"] = 1
    assert check().training().network.scale == 0.125
    what = "the scale is alpha / rank = 0.125; ai-toolkit would have used 1 with FLUX models"
    assert check().notices == (f"config.process[0].network.alpha: {what}",)


def test_an_average_that_is_not_switched_on_is_mentioned(process: Tree, check: Check) -> None:
    process["train"]["ema_config"] = {"ema_decay": 0.9}
    assert check().notices == ("config.process[0].train.ema_config: is off without `use_ema: true`",)


@pytest.mark.parametrize(
    ("model", "arch"),
    [
        ({"arch": "flux2:4bit"}, "flux2"),
        ({"is_flux2": True}, "flux2"),
        ({"is_flux2": True, "arch": "flux2_small"}, "flux2_small"),
        ({"is_flux": False, "arch": "other"}, "other"),
    ],
)
def test_the_arch_is_settled_from_tags_and_flags(
    model: dict[str, object], arch: str, process: Tree, check: Check
) -> None:
    process["model"] = {"name_or_path": "owner/model"} | model
    assert check().training().model.arch == arch


@pytest.mark.parametrize("model", [{}, {"is_flux": True}, {"is_flux2": True, "arch": "other"}, {"arch": 5}])
def test_an_ambiguous_model_is_reported(model: dict[str, object], process: Tree, problems: Problems) -> None:
    process["model"] = {"name_or_path": "owner/model"} | model
    assert list(problems()) == ["model.arch"]


def test_what_the_models_card_says_stands_beneath_the_job(process: Tree, check: Check) -> None:
    process["model"]["arch"] = "flux2_small"
    process["network"] = {"type": "lora"}
    process["train"]["optimizer_params"] = {"weight_decay": 0.5}
    process["sample"] = {"width": 640}
    process["first_sample"] = {"height": 640}
    checked = check().training()
    assert (checked.train.steps, checked.train.lr, checked.network.linear) == (77, 2e-4, 5)
    assert (checked.train.optimizer_params.eps, checked.train.optimizer_params.weight_decay) == (1e-5, 0.5)
    assert checked.datasets[0].resolution == (256,)
    assert (checked.sample.width, checked.first_sample.width) == (640, 320)


def test_a_card_makes_no_lora_of_a_full_finetune(process: Tree, check: Check) -> None:
    process["model"]["arch"] = "flux2_small"
    del process["network"]
    process["train"]["full_finetune"] = True
    assert check().training().network is None


def test_what_the_card_says_is_not_part_of_the_stored_job(process: Tree, check: Check) -> None:
    process["model"]["arch"] = "flux2_small"
    assert "steps: 77" not in check().as_written()


def test_files_that_a_job_names_must_be_there(process: Tree, problems: Problems, tmp_path: Path) -> None:
    process["network"]["pretrained_lora_path"] = str(tmp_path / "no.safetensors")
    process["datasets"].append({"folder_path": __file__})
    found = problems()
    assert found["network.pretrained_lora_path"] == f'no file "{tmp_path / "no.safetensors"}"'
    assert found["datasets[1].folder_path"].startswith(f'"{__file__}" is neither a folder nor one of .json')


def test_bounds_that_concern_two_keys_are_checked(process: Tree, problems: Problems) -> None:
    process["train"] |= {"min_denoising_steps": 500, "max_denoising_steps": 100}
    assert "leaves no noise level" in problems()["train"]


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:1"])
def test_devices_are_named_as_in_torch(device: str, process: Tree, check: Check) -> None:
    process["device"] = device
    assert check().training().device == device


def test_a_device_that_does_not_exist_is_reported(process: Tree, problems: Problems) -> None:
    process["device"] = "gpu"
    assert problems() == {
        "device": 'not a valid value (found "gpu"). Choose auto (the best available), cpu, mps, cuda or cuda:N.'
    }


def test_a_job_file_is_found_with_and_without_folder_and_extension(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "inner.yml").write_text("a: 1")
    assert find_job_file(str(job_file)) == job_file
    assert find_job_file(str(job_file.with_suffix(""))) == job_file
    assert find_job_file("cat") == Path("cat.yaml")
    assert find_job_file("inner") == find_job_file("inner.yml") == Path("config/inner.yml")


@pytest.mark.parametrize("name", ["no_such_job", "config", "", "."])
def test_a_missing_job_file_is_reported(name: str) -> None:
    with pytest.raises(JobError, match="no such job file"):
        find_job_file(name)


@pytest.mark.parametrize("arch", sorted(find_cards()))
def test_the_defaults_of_every_model_make_a_job_without_a_word(arch: str, job: Tree, process: Tree) -> None:
    process["model"]["arch"] = arch
    checked = check_job(job, path=Path("job.yaml"), known=find_known())
    assert (checked.training().model.arch, checked.notices) == (arch, ())


@pytest.mark.parametrize("kind", ["sd_trainer", "diffusion_trainer", "ui_trainer"])
def test_ai_toolkits_names_of_the_trainer_are_known(kind: str, job: Tree, process: Tree) -> None:
    process["type"] = kind
    assert check_job(job, path=Path("job.yaml"), known=find_known()).training().type == kind


def test_a_job_file_in_json_is_the_same_job(job_file: Path, job: Tree) -> None:
    other = job_file.with_suffix(".jsonc")
    other.write_text("// the same\n" + json.dumps(job))
    assert load_job(other).config == load_job(job_file).config


def test_reading_job_files_loads_no_torch() -> None:
    code = "import sys, toolkit.config, toolkit.config_modules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


@pytest.mark.parametrize("value", [None, 5, -1.5, True, "odd", "${NO_SUCH_VARIABLE}", [], [None], {}, {"a": [1]}])
def test_anything_in_a_job_file_is_read_or_reported(value: object) -> None:
    flux_job = parse_file(FLUX_JOB)
    for location in _places(flux_job):
        tree = copy.deepcopy(flux_job)
        value_at(tree, location[:-1])[location[-1]] = value
        with contextlib.suppress(JobError):
            check_job(tree, path=FLUX_JOB, known=find_known())


def _places(tree: Any, location: Location = ()) -> Iterator[Location]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*location, key)
        yield from _places(value, (*location, key))


def test_notices_stand_beside_the_mistakes(process: Tree, check: Check) -> None:
    process["train"] |= {"attention_backend": "flash", "lrr": 1}
    with pytest.raises(JobError) as caught:
        check()
    (notice,) = caught.value.notices
    assert notice.startswith("config.process[0].train.attention_backend: ignored")
    assert str(caught.value).splitlines()[-2:] == ["Also worth knowing", f"  {notice}"]


@pytest.mark.parametrize(
    ("key", "name", "advice"),
    [
        ("lr_scheduler", "cosine_with_warmup", "Write `cosine`, and `lr_scheduler_params: {warmup_steps: STEPS}`"),
        ("optimizer", "paged_AdamW_8bit", "Write `adamw8bit`"),
        ("timestep_type", "lognorm", "Write `sigmoid`"),
    ],
)
def test_a_name_of_another_program_is_answered_by_its_meaning(
    key: str, name: str, advice: str, process: Tree, problems: Problems
) -> None:
    process["train"][key] = name
    assert problems()[f"train.{key}"] == f'"{name}" is not known here. {advice}'


def test_a_random_seed_of_the_training_is_explained(process: Tree, problems: Problems) -> None:
    process["sample"] = {"seed": -1, "samples": [{"prompt": "a", "seed": -1}]}
    process["training_seed"] = -1
    found = problems()
    assert set(found) == {"training_seed"}
    assert all("a random seed in other programs" in what for what in found.values())


def test_a_path_with_a_special_character_is_shown_escaped_with_the_remedy(process: Tree, problems: Problems) -> None:
    process["training_folder"] = "C:\temp\new"  # a tab, and a new line
    what = problems()["training_folder"]
    assert what.startswith('"C:\\temp\\new" contains a special character')
    assert "write paths with /" in what


@pytest.mark.parametrize(("one", "other", "is_taken"), [(4, 1, 4), (1, 4, 4), (1, 1, 1), (2, 4, None)])
def test_of_two_accumulations_the_one_that_is_on_counts(
    one: Any, other: Any, is_taken: Any, process: Tree, check: Check
) -> None:
    process["train"] = {"gradient_accumulation": one, "gradient_accumulation_steps": other}
    if is_taken is None:
        with pytest.raises(JobError, match="keep one of them"):
            check()
    else:
        assert check().config.process[0].train.gradient_accumulation == is_taken
