"""A training run from every layout: load, sample, train, save, and read back what was saved."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Klein4BModel, Flux2Model
from jobs.job import Job
from tests import layouts
from tests.tiny import TINY, tiny_config, write_job
from toolkit.config import load_job
from toolkit.stop import StopRequest
from toolkit.weights.tensor_files import read_tensors

RUNS = [
    *(("klein", layout) for layout in ("diffusers", "folder of single files", "comfy", "fp8 scaled")),
    *(("dev", layout) for layout in ("diffusers", "released", "fp8 scaled, older")),
]


@pytest.mark.parametrize(("kind", "layout"), RUNS)
def test_a_layout_can_be_trained_sampled_saved_and_read_back(kind: str, layout: str, tmp_path: Path) -> None:
    is_dev = kind == "dev"
    transformer = layouts.small_transformer(guidance_embeds=is_dev, joint_dim=96 if is_dev else 192)
    stem = "flux2-dev" if is_dev else "flux-2-klein-base-4b"
    place = layouts.write_model(tmp_path / "model", layout, transformer, stem=stem)
    encoder = layouts.write_text_encoder(tmp_path / "encoder") if is_dev else TINY
    arch = "flux2" if is_dev else "flux2_klein_4b"
    job = write_job(
        tmp_path,
        model={"name_or_path": str(place), "arch": arch, "te_name_or_path": str(encoder)},
        train={"steps": 2, "batch_size": 1, "disable_sampling": False, "skip_first_sample": True},
        save={"save_every": 2},
        sample={"sample_every": 2, "prompts": ["a red circle"]},
    )
    assert Job(load_job(job)).run(StopRequest()).status == "done"
    output = tmp_path / "output" / "job"
    (sample,) = (output / "samples").glob("*__*.jpg")
    with Image.open(sample) as image:
        assert image.size == (32, 32)
    saved = read_tensors(output / "job.safetensors")
    model_class = Flux2Model if is_dev else Flux2Klein4BModel
    config = tiny_config(name_or_path=place, arch=arch)
    model = model_class(config, device=torch.device("cpu"), dtype=torch.float32)
    model.load("transformer")
    assert len(model.convert_lora_weights_before_load(saved)) == len(saved)
    assert any(tensor.abs().max() > 0 for name, tensor in saved.items() if "lora_B" in name)
