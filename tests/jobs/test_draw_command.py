"""jobs.draw_command"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.draw_command import checkpoints, drawing_job
from jobs.options import read_options
from tests.drawing import write_lora
from tests.tiny import TINY, write_job
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.errors import UserError
from toolkit.files import Written
from toolkit.output.bundles import bundle_folder, write_manifest
from toolkit.weights.tensor_files import write_tensors


def drawing(*arguments: str) -> GenerateProcessConfig:
    process = drawing_job(read_options(arguments)).config.process[0]
    assert isinstance(process, GenerateProcessConfig)
    return process


def test_a_run_is_drawn_with_its_own_prompts_and_newest_weights(tmp_path: Path) -> None:
    sample = {"width": 48, "seed": 3, "samples": [{"prompt": "a [trigger]", "neg": "x"}, "b --seed 8"]}
    job = write_job(tmp_path, trigger_word="zork", sample=sample)
    with pytest.raises(UserError, match="no trained weights yet"):
        drawing("--sample", str(job))
    newest = write_lora(tmp_path / "output" / "job" / "job.safetensors", seed=1)
    process = drawing("--sample", str(job))
    assert [(one.path, one.weight) for one in process.loras] == [(newest, 1.0)]
    assert process.folder == tmp_path / "output" / "job" / "drawn"
    first, second = process.generate.items(process.trigger_word)
    assert (first.prompt, first.neg, first.width, first.seed) == ("a zork", "x", 48, 3)
    assert (second.prompt, second.seed) == ("b", 8)


def test_a_full_fine_tune_is_drawn_with_its_own_transformer(tmp_path: Path) -> None:
    job = write_job(tmp_path, network=None, train={"full_finetune": True}, sample={"prompts": ["a"]})
    newest = write_lora(tmp_path / "output" / "job" / "job.safetensors", seed=1)
    process = drawing("--sample", str(job))
    assert process.model.model_paths.transformer == str(newest) and not process.loras


def test_a_run_is_drawn_on_the_weights_of_its_samples(tmp_path: Path) -> None:
    sample = {"prompts": ["a"], "model": "some/twin"}
    job = write_job(tmp_path, sample=sample, train={"disable_sampling": False})
    write_lora(tmp_path / "output" / "job" / "job.safetensors", seed=1)
    assert drawing("--sample", str(job)).model.name_or_path == "some/twin"
    assert drawing("--sample", str(job), "--model", str(TINY)).model.name_or_path == str(TINY)


def test_a_run_with_adapters_is_drawn_with_the_files_of_its_newest_step(tmp_path: Path) -> None:
    adapters = [{"type": "mean_flow"}, {"type": "control_lora", "control_image_dropout": 0.5}]
    job = write_job(tmp_path, adapter=adapters, sample={"prompts": ["a"]}, train={"objective": "mean_flow"})
    folder = tmp_path / "output" / "job"
    names = ["job_mean_flow.safetensors", "job_control_lora.safetensors"]
    for name in names:
        write_lora(folder / name, seed=1)
        with pytest.raises(UserError, match="not saved its adapters yet"):
            drawing("--sample", str(job))
    lora = write_lora(folder / "job_LoRA.safetensors", seed=1)
    process = drawing("--sample", str(job))
    assert [one.name_or_path for one in process.adapter] == [folder / name for name in names]
    assert process.adapter[1].control_image_dropout == 0, "a setting of training"
    assert [one.path for one in process.loras] == [lora]
    write_job(tmp_path, adapter={"type": "subpixel"}, network=None, train={"full_finetune": True})
    with pytest.raises(UserError, match="Only the samples of the run itself"):
        drawing("--sample", str(job))


def test_an_adapters_file_says_what_it_is(tmp_path: Path) -> None:
    header = {"adapter_type": "ip", "adapter_layer": "image_embeds", "adapter_blocks": "double", "adapter_tokens": "7"}
    file, encoder = tmp_path / "ip.safetensors", tmp_path / "encoder"
    encoder.mkdir()
    write_tensors(file, {"a": torch.zeros(1)}, header)
    (tmp_path / "prompts.txt").write_text("a dog --adapter_conditioning_scale 0.5\n")
    given = ["--model", str(TINY), "--arch", "flux2_tiny", "--prompts", str(tmp_path / "prompts.txt")]
    process = drawing(*given, "--adapter", f"{file}:{encoder}")
    (adapter,), (item,) = process.adapter, process.generate.items()
    assert (adapter.type, adapter.name_or_path, adapter.image_encoder_path) == ("ip", file, str(encoder))
    assert (adapter.layer, adapter.blocks, adapter.tokens) == ("image_embeds", "double", 7)
    assert item.adapter_conditioning_scale == 0.5
    with pytest.raises(UserError, match="does not say what kind of adapter it is"):
        drawing(*given, "--adapter", str(write_lora(tmp_path / "lora.safetensors", seed=1)))


def test_a_model_and_loras_need_no_run(tmp_path: Path) -> None:
    file = write_lora(tmp_path / "a.safetensors", seed=1)
    (tmp_path / "prompts.txt").write_text("a dog\n")
    given = ["--model", str(TINY), "--arch", "flux2_tiny", "--prompts", str(tmp_path / "prompts.txt")]
    process = drawing(*given, "--lora", f"{file}:0.5", "--lora", str(file), "--output", str(tmp_path / "out"))
    assert [(one.path, one.weight) for one in process.loras] == [(file, 0.5), (file, 1.0)]
    assert process.folder == tmp_path / "out"
    with pytest.raises(UserError, match="--arch"):
        drawing("--model", "my/own", "--prompts", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lora", "x"], "only with --sample or --model"),
        (["--sample", "a", "b.yaml"], "they take no job file"),
        (["--model", "a"], "needs --prompts"),
    ],
)
def test_options_that_do_not_go_together_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_options(arguments)
    assert message in capsys.readouterr().err


def test_checkpoints_are_those_of_one_name_whether_a_file_or_a_folder(tmp_path: Path) -> None:
    steps = {
        2: ["job_ip_000000002.safetensors", "job_LoRA_000000002.safetensors"],
        3: ["job_000000003/transformer/x.safetensors"],
    }
    for step, names in steps.items():
        bundle = bundle_folder(tmp_path, step)
        bundle.mkdir(parents=True)
        files = [tmp_path / name for name in names]
        for file in files:
            file.parent.mkdir(exist_ok=True, parents=True)
            file.touch()
        write_manifest(bundle, files=dict.fromkeys(files, Written(0, "")), facts={})
    assert checkpoints(tmp_path, "job_LoRA") == {2: tmp_path / "job_LoRA_000000002.safetensors"}
    assert checkpoints(tmp_path, "job") == {3: tmp_path / "job_000000003" / "transformer"}


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert checkpoints(tmp_path, "job") == {}
