"""schnell beside its training adapter: at work in training, off in samples, and not in what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux.lora_names import write
from extensions_built_in.diffusion_models.flux.size import FLUX_1
from jobs.job import Job
from tests.extensions_built_in.flux.test_lora_names import _updates
from tests.test_examples import with_images
from tests.tiny import run_job, write_job
from tests.tiny_flux import tiny_flux
from toolkit.cards import find_cards
from toolkit.config import SampleItem, load_job
from toolkit.errors import JobError, UserError
from toolkit.models.condition import Condition, SampleCondition
from toolkit.plan.memory_check import check_memory
from toolkit.plan.workload import assumed_needs, workload_of
from toolkit.weights.tensor_files import read_tensors, write_tensors

SCHNELL = Path(__file__).resolve().parents[3] / "config" / "examples" / "train_lora_flux_schnell_24gb.yaml"
ITEM = SampleItem("a red circle", "", 32, 32, 0, 1.0, 2, 1.0)
Sections = dict[str, dict[str, Any]]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """As a repository of the hub has it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_tensors(folder / "pytorch_lora_weights.safetensors", write(_adapter(), "diffusers"))
    return folder


def _adapter() -> dict[str, Any]:
    return {name: update for name, update in _updates().items() if "norm1" not in name}


def _predict(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy, embeds = torch.randn(1, 16, 4, 4, generator=generator), torch.randn(1, 9, 32, generator=generator)
    with torch.no_grad():
        velocity: Tensor = model.get_noise_prediction(noisy, torch.tensor([500.0]), Condition(embeds))
    return velocity


def _sample(model: Any) -> Tensor:
    embeds = {ITEM.prompt: torch.randn(9, 32, generator=torch.Generator().manual_seed(3))}
    with torch.no_grad():
        image = model.generate_single_image(
            model.get_generation_pipeline(), ITEM, SampleCondition(embeds), torch.Generator().manual_seed(1)
        )
    return torch.tensor(list(image.tobytes()))


@pytest.mark.parametrize("quantize", [False, True])
def test_training_sees_the_assistant_and_samples_do_not(sections: Sections, adapter: Path, quantize: bool) -> None:
    plain = tiny_flux(sections["schnell"], "vae", "transformer", quantize=quantize)
    assisted = tiny_flux(sections["schnell"], "vae", "transformer", quantize=quantize, assistant_lora_path=str(adapter))
    assert not torch.allclose(_predict(assisted), _predict(plain), atol=1e-4)
    assert torch.equal(_sample(assisted), _sample(plain))
    before = _predict(assisted)
    with assisted.without_assistant_lora():
        assert torch.equal(_predict(assisted), _predict(plain)), "off is exactly the model without it"
    assert torch.equal(_predict(assisted), before)


def test_the_assistant_is_the_adapter_merged_at_full_strength(sections: Sections, adapter: Path) -> None:
    merged = tiny_flux(sections["schnell"], "transformer")
    with torch.no_grad():
        for name, update in _adapter().items():
            merged.transformer.get_submodule(name).weight += update.delta()
    assisted = tiny_flux(sections["schnell"], "transformer", assistant_lora_path=str(adapter))
    assert torch.allclose(_predict(assisted), _predict(merged), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in assisted.transformer.parameters())


def test_a_run_saves_the_users_update_alone(sections: Sections, adapter: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": {**sections["schnell"], "assistant_lora_path": str(adapter)},
        "network": {"type": "lora", "linear": 2, "network_kwargs": {"only_if_contains": ["single_transformer_blocks"]}},
        "train": {"steps": 2, "batch_size": 1, "disable_sampling": False, "skip_first_sample": True},
        "sample": {"sample_every": 2, "prompts": ["a red circle"]},
    }
    assert run_job(write_job(tmp_path, **options)).status == "done"
    saved = read_tensors(tmp_path / "output" / "job" / "job.safetensors")
    assert all("single_transformer_blocks" in name for name in saved)
    assert {tensor.shape[0] for name, tensor in saved.items() if "lora_A" in name} == {2}
    without = tiny_flux(sections["schnell"], "transformer", assistant_lora_path=None)
    assert len(without.convert_lora_weights_before_load(saved)) == len(saved)


def test_an_adapter_that_is_not_there_or_of_another_model_is_named(sections: Sections, tmp_path: Path) -> None:
    def job(path: Path | str) -> Path:
        return write_job(tmp_path, model={**sections["schnell"], "assistant_lora_path": str(path)})

    with pytest.raises(JobError, match=r"assistant_lora_path: .*neither an existing path nor a hub id"):
        load_job(job(tmp_path / "nothing.safetensors"))
    with pytest.raises(UserError, match=r"model\.assistant_lora_path.*contains no assistant"):
        Job(load_job(job(tmp_path / "images"))).check()
    foreign = tmp_path / "foreign.safetensors"
    write_tensors(foreign, {"transformer.nowhere.lora_A.weight": torch.ones(1, 1)})
    with pytest.raises(UserError, match=r"model\.assistant_lora_path: .*foreign.safetensors: 1 of 1 keys"):
        tiny_flux(sections["schnell"], "transformer", assistant_lora_path=str(foreign))
    wide = {
        "transformer.proj_out.lora_A.weight": torch.ones(1, 7),
        "transformer.proj_out.lora_B.weight": torch.ones(64, 1),
    }
    write_tensors(foreign, wide)
    with pytest.raises(UserError, match="made for another model"):
        tiny_flux(sections["schnell"], "transformer", assistant_lora_path=str(foreign))


def test_a_model_without_distilled_weights_takes_no_assistant(tmp_path: Path, adapter: Path) -> None:
    with pytest.raises(UserError, match=r"assistant_lora_path: .* cannot be trained with an assistant LoRA"):
        Job(load_job(write_job(tmp_path, model={"arch": "flux2", "assistant_lora_path": str(adapter)}))).check()


def test_the_assistants_weights_are_counted_by_its_header_and_not_while_it_is_on_the_hub(
    sections: Sections, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = adapter / "pytorch_lora_weights.safetensors"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(adapter.parent / "empty"))
    counts = [
        tiny_flux(sections["schnell"], assistant_lora_path=path).count_assistant_weights()
        for path in (None, str(adapter), "somebody/adapter", "somebody/adapter/file.safetensors")
    ]
    assert counts == [0, sum(tensor.numel() for tensor in read_tensors(file).values()), None, None]


def test_a_check_says_that_an_assistant_on_the_hub_is_not_counted(sections: Sections) -> None:
    process = with_images(SCHNELL, SCHNELL.parent).training()
    card = find_cards()["flux"]
    work = workload_of(assumed_needs(process, card), card)
    check = check_memory(process, FLUX_1, work, device=None, vram_gb=24, assistant_parameters=None)
    assert "memory: model.assistant_lora_path is not on disk yet, so its weights are not counted" in check.lines
