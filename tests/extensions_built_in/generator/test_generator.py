"""A whole drawing job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from jobs.job import Job
from tests.drawing import psnr, write_drawing, write_lora
from tests.tiny import TINY, StopAfter, run_job, tiny_model
from toolkit.adapters.files import write_adapter
from toolkit.adapters.mean_flow import MeanFlowAdapter
from toolkit.config import AdapterConfig, load_job
from toolkit.errors import JobError
from toolkit.output.events import read_events
from toolkit.randomness import Draws


@pytest.mark.filterwarnings("ignore:Already found a .peft_config")
def test_a_job_draws_what_diffusers_draws_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """A whole job: nothing else shows that the stages work together."""
    one = write_lora(tmp_path / "one.safetensors", seed=1)
    other = write_lora(tmp_path / "other.safetensors", seed=2, file_format="diffusers")
    prompts = ["a red circle --seed 5 --neg blurry --cfg 3", "a green square --w 48 --seed -1"]
    loras = [{"path": str(one), "weight": 0.7}, {"path": str(other), "weight": -0.5}]
    job = write_drawing(tmp_path, generate={"prompts": prompts, "sample_steps": 4}, loras=loras)
    assert run_job(job, StopAfter(14)).status == "interrupted"
    (first,) = (tmp_path / "pictures").glob("*.png")
    drawn_ns = first.stat().st_mtime_ns
    assert run_job(job).status == "done"
    assert first.stat().st_mtime_ns == drawn_ns
    ours, second = sorted((tmp_path / "pictures").glob("*.png"))
    with Image.open(second) as wide:
        assert ours == first and wide.size == (48, 32)
    told = [event for event in read_events(tmp_path / "pictures" / "events.jsonl") if event["kind"] == "sample"]
    assert [event["path"] for event in told] == [ours.name, second.name]
    assert told[0]["seed"] == 5 and told[1]["seed"] >= 0

    pipeline = Flux2KleinPipeline.from_pretrained(TINY, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> Image.Image:
        return pipeline(
            prompt="a red circle",
            negative_prompt_embeds=pipeline.encode_prompt("blurry", max_sequence_length=48)[0],
            width=32,
            height=32,
            num_inference_steps=4,
            guidance_scale=3.0,
            max_sequence_length=48,
            generator=torch.Generator().manual_seed(5),
        ).images[0]

    base = draw()
    for path in (one, other):
        pipeline.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name=path.stem)
    pipeline.set_adapters(["one", "other"], [0.7, -0.5])
    with Image.open(ours) as picture:
        assert psnr(draw(), picture) >= 40
        assert psnr(base, picture) < 30, "the LoRAs changed something"


def test_a_sheet_draws_each_prompt_in_each_column(tmp_path: Path) -> None:
    """A whole job: LoRAs come and go between columns."""
    files = [str(write_lora(tmp_path / f"step_{seed}.safetensors", seed=seed)) for seed in (1, 2)]
    generate = {"seed": 3, "prompts": ["a red circle", "a green square", "a blue ring"], "batch_size": 2}
    job = write_drawing(tmp_path, generate=generate, sheet="checkpoints", checkpoints=[*files, files[0]])
    assert run_job(job).status == "done"
    pictures = sorted((tmp_path / "pictures").glob("0001_*.png"))
    assert len(pictures) == 2, "a file that is there twice is drawn once"
    told = [event for event in read_events(tmp_path / "pictures" / "events.jsonl") if event["kind"] == "sample"]
    assert [event["index"] for event in told] == [0, 1, 2, 0, 1, 2]
    with Image.open(pictures[0]) as one, Image.open(pictures[1]) as other:
        assert psnr(one, other) < 40
    with Image.open(tmp_path / "pictures" / "sheet_checkpoints.png") as sheet:
        first, second, third = (sheet.crop((160 + 256 * x, 18, 416 + 256 * x, 274)) for x in range(3))
        assert first.tobytes() == third.tobytes() != second.tobytes()


def test_a_sheet_draws_with_the_adapter_of_each_checkpoint(tmp_path: Path) -> None:
    """Two jobs: the file of the job comes back after that of another column."""
    files = [str(_write_adapter(tmp_path / f"step_{seed}.safetensors", seed=seed)) for seed in (1, 2)]
    adapter = {"type": "mean_flow", "name_or_path": files[0]}
    sheet = write_drawing(tmp_path, generate={}, adapter=adapter, sheet="checkpoints", checkpoints=files[::-1])
    (tmp_path / "alone").mkdir()
    alone = write_drawing(tmp_path / "alone", generate={}, adapter=adapter)
    assert [run_job(job).status for job in (sheet, alone)] == ["done", "done"]
    (one,) = (tmp_path / "alone" / "pictures").glob("0001_*.png")
    drawn = [Image.open(path).tobytes() for path in (tmp_path / "pictures").glob("0001_*.png")]
    assert len(set(drawn)) == 2
    assert drawn.count(Image.open(one).tobytes()) == 1
    save_file({"a": torch.zeros(1)}, files[1], {"adapter_type": "redux"})
    (checked,) = Job(load_job(sheet)).checks()
    assert "is the file of a `redux` adapter, but the job has no adapter" in str(checked.problems[0])


def _write_adapter(path: Path, *, seed: int) -> Path:
    adapter = MeanFlowAdapter(AdapterConfig.model_validate({"type": "mean_flow"}), None)
    adapter.attach(tiny_model("transformer"), Draws(seed))
    with torch.no_grad():
        adapter.embedder.linear_2.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(seed))
    write_adapter(path, adapter, dtype=torch.float32, metadata={})
    return path


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ({"generate": {"prompts": ["a --w zero"]}}, "generate.prompts[0].width"),
        ({"generate": {"prompts": "nowhere.txt"}}, 'generate.prompts: no file "nowhere.txt"'),
        ({"generate": {"prompts": []}}, "generate.prompts: needs at least 1 entry"),
        ({"generate": {}, "loras": "nowhere.safetensors"}, 'loras[0].path: no file "nowhere.safetensors"'),
        ({"generate": {"sample_step": 64}}, "Did you mean `sample_steps`?"),
    ],
)
def test_a_mistake_is_named_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], process: dict[str, Any], message: str
) -> None:
    job = write_drawing(tmp_path, **process)
    with pytest.raises(Exception, match="mistake") as raised:
        run_job(job)
    assert message in str(raised.value)


def test_the_check_names_what_is_wrong_with_adapters(tmp_path: Path) -> None:
    """One check of all: prompts without images, a vision encoder that is not there, files of others."""
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, file, {"adapter_type": "control_lora", "adapter_arch": "flux2_klein_4b"})
    ip = {"type": "ip", "image_encoder_path": str(tmp_path), "name_or_path": str(file)}
    control = {"type": "control_lora", "name_or_path": str(file)}
    job = write_drawing(tmp_path, generate={"prompts": ["a", "b"]}, adapter=[ip, control], loras=[str(file)])
    (checked,) = Job(load_job(job)).checks()
    found = " ".join(map(str, checked.problems))
    assert "generate.prompts: no prompt has an image for the `ip` adapter" in found
    assert "generate.prompts: no prompt has an image for the `control_lora` adapter" in found
    assert "adapter.image_encoder_path" in found
    assert "was trained with adapter type control_lora, and this job has ip" in found
    assert "was trained with adapter arch flux2_klein_4b, and this job has flux2_tiny" in found
    assert "is an adapter file" in found
    with pytest.raises(JobError, match=r"adapter\[0\].name_or_path. is missing"):
        load_job(write_drawing(tmp_path, generate={}, adapter={"type": "mean_flow"}))


def test_a_lora_of_another_model_is_named_by_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lora(tmp_path / "wide.safetensors", seed=1)

    save_file({key: torch.cat([t, t], dim=-1) if "lora_A" in key else t for key, t in load_file(file).items()}, file)
    assert run_job(write_drawing(tmp_path, generate={}, loras=[str(file)])).status == "refused"
    assert "the file was made for another model" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()
