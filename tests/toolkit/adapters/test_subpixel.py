"""subpixel: pixels in place of latents, and a predicted image in place of a velocity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from PIL import Image
from torch import Tensor

from extensions_built_in.diffusion_models.flux2 import sampling
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from jobs.job import Job
from jobs.process.training_checked import TrainingChecked
from tests.tiny import TINY, StopAfter, losses, run_job, tiny_config, tiny_model, write_dataset, write_job
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.subpixel import SubpixelAdapter
from toolkit.cards import find_cards
from toolkit.config import AdapterConfig, NetworkConfig, SampleItem, load_job
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.models.options import ModelOptions
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_metadata, read_tensors

CPU = torch.device("cpu")


def setup(cell_px: int = 8) -> tuple[SubpixelAdapter, Any]:
    options = ModelOptions(card=find_cards()["flux2_tiny"].in_pixels(token_px=2 * cell_px))
    model = Flux2TinyModel(tiny_config(), device=CPU, dtype=torch.float32, options=options)
    model.load("transformer")
    model.use_pixel_vae(cell_px)
    settings = {"type": "subpixel", "subpixel_downscale_factor": cell_px}
    adapter = SubpixelAdapter(AdapterConfig.model_validate(settings))
    adapter.attach(model, Draws(0))
    adapter.layers["proj_out"].weight.data += 0.05 * normal(12 * cell_px**2, 192, seed=4)
    return adapter, model


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [16, 32])
def test_pixels_become_latents_and_come_back_without_loss(side: int) -> None:
    model = tiny_model()
    model.use_pixel_vae(side // 2)
    pixels = normal(2, 3, 2 * side, 3 * side, seed=0).clamp(-1, 1)
    latents = model.encode_images(pixels)
    assert latents.shape == (2, 3 * side**2, 2, 3)
    assert (model.decode_latents(latents) - pixels).abs().max() < 1e-5
    patch = (pixels[0, :, side : 2 * side, 2 * side :] + 0.123) * 1.8
    assert torch.allclose(latents[0, :, 1, 2].sort().values, patch.flatten().sort().values, atol=1e-5)


def test_the_prediction_is_the_velocity_of_the_image_that_the_last_layer_gives() -> None:
    adapter, model = setup()
    noisy, sigma = normal(2, 768, 2, 2, seed=1), torch.tensor([0.01, 0.5])
    seen: list[Tensor] = []
    hooks = adapter.layers["proj_out"]._forward_hooks
    (own,) = hooks.values()

    def look(module: torch.nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output)
        return own(module, arguments, output)

    hooks[next(iter(hooks))] = look
    with torch.no_grad():
        velocity = model.get_noise_prediction(noisy, 1000 * sigma, Condition(normal(2, 48, 192, seed=2)))
    clean = seen[0].transpose(1, 2).reshape(noisy.shape)
    for index, divisor in enumerate((0.05, 0.5)):
        assert torch.allclose(velocity[index], (noisy[index] - clean[index]) / divisor, atol=1e-5)


def test_only_the_new_layers_have_gradients_and_recomputing_keeps_them() -> None:
    found = []
    for checkpointing in (False, True):
        adapter, model = setup()
        if checkpointing:
            model.enable_gradient_checkpointing()
            model.transformer.train()
        condition = Condition(normal(2, 48, 192, seed=2))
        model.get_noise_prediction(
            normal(2, 768, 2, 2, seed=1), torch.tensor([300.0, 700.0]), condition
        ).mean().backward()
        own = {parameter for _, parameter in adapter.named_parameters()}
        assert {p for p in model.transformer.parameters() if p.grad is not None} == own
        found.append([parameter.grad for _, parameter in adapter.named_parameters()])
    for kept, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(kept, recomputed, atol=1e-7, rtol=1e-5)


def test_a_lora_on_the_layers_that_it_replaces_is_refused() -> None:
    model = tiny_model("transformer")
    Network(model, NetworkConfig.model_validate({"linear": 2, "transformer_only": False}), Draws(0)).apply()
    with pytest.raises(UserError, match="Leave both out"):
        SubpixelAdapter(AdapterConfig.model_validate({"type": "subpixel"})).attach(model, Draws(0))


@pytest.mark.parametrize("cell_px", [8, 16])
def test_the_plan_counts_the_weights_that_there_are(cell_px: int) -> None:
    adapter, model = setup(cell_px)
    count = adapter.config.choice.count(adapter.config, model.card, None)
    assert count == sum(parameter.numel() for _, parameter in adapter.named_parameters())


@pytest.mark.parametrize(("cell_px", "size"), [(8, (32, 48)), (16, (64, 96))])
@pytest.mark.parametrize("kind", [Flux2KleinPipeline, Flux2Pipeline])
def test_diffusers_pipelines_draw_pixels_without_a_vae(cell_px: int, size: tuple[int, int], kind: Any) -> None:
    adapter, model = setup(cell_px)
    item = SampleItem("a", "", *size, 0, 3.0, 2, 1.0)
    condition = SampleCondition({"a": normal(48, 192, seed=3)})
    pipeline = kind(transformer=model.transformer, **model._pipeline_parts())
    arguments = {"prompt_embeds": condition.prompt_embeds["a"].unsqueeze(0), "guidance_scale": 1.0}
    with torch.no_grad(), AdapterSet((adapter,)).scaled(1.0):
        draw = torch.Generator().manual_seed(0)
        (image,) = sampling.draw(pipeline, item, arguments, [draw], encode=model.encode_images, limit=1 << 20)
    assert image.size == size


def test_files_of_something_else_are_refused() -> None:
    adapter, _ = setup()
    tensors, metadata = adapter.state_dict(), adapter.metadata()
    assert list(tensors) == ["transformer.x_embedder.weight", "transformer.proj_out.weight"]
    wrong: tuple[Any, ...] = (
        ({**tensors, "more": torch.zeros(1)}, {}, "1 unknown: more"),
        ({"transformer.x_embedder.weight": torch.zeros(192, 768)}, {}, "1 missing: transformer.proj_out.weight"),
        ({**tensors, "transformer.x_embedder.weight": torch.zeros(192, 3072)}, {}, r"is \[192, 3072\]"),
        (tensors, {**metadata, "adapter_arch": "flux2"}, "arch flux2"),
    )
    for content, header, what in wrong:
        with pytest.raises(UserError, match=what):
            adapter.load_state_dict(content, header, source="file")


def test_a_stopped_and_resumed_run_repeats_every_loss_and_loads_no_vae(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "adapter": {"type": "subpixel", "lora_config": {"type": "lora", "linear": 2}},
        "network": None,
        "train": {"disable_sampling": False, "skip_first_sample": True},
        "sample": {"samples": [{"prompt": "a"}], "format": "png"},
    }
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, parts = (write_job(tmp_path / name, **given) for name in ("whole", "parts"))
    load_recipe, loaded = BaseModel.load_recipe, []

    def watched(self: BaseModel, component: Any, *arguments: Any, **named: Any) -> Any:
        loaded.append(component)
        return load_recipe(self, component, *arguments, **named)

    monkeypatch.setattr(BaseModel, "load_recipe", watched)
    assert run_job(whole).status == "done"
    assert loaded == ["text_encoder", "transformer"]
    assert run_job(parts, StopAfter(6 + 4 + 4)).status == "interrupted"
    outputs = [path.parent / "output" / "job" for path in (whole, parts)]
    assert 0 < len(losses(outputs[1])) < 6
    assert run_job(parts).status == "done"
    assert losses(outputs[0]) == losses(outputs[1])
    one, other = (read_tensors(output / "job_adapter.safetensors") for output in outputs)
    assert all(torch.equal(one[key], other[key]) for key in one)
    (drawn,) = (outputs[0] / "samples").glob("*__000000006_0.png")
    with Image.open(drawn) as image:
        assert image.size == (32, 32)


def without_vae(folder: Path) -> Path:
    """The tiny model's folder, without its VAE."""
    folder.mkdir()
    for path in TINY.iterdir():
        if path.name != "vae":
            (folder / path.name).symlink_to(path)
    return folder


def test_tokens_of_32_pixels_train_and_draw_on_images_whose_sides_are_multiples_of_32(tmp_path: Path) -> None:
    images = write_dataset(tmp_path / "large", size_px=80)
    path = write_job(
        tmp_path,
        adapter={"type": "subpixel", "subpixel_downscale_factor": 16},
        datasets=[{"folder_path": str(images), "resolution": 80}],
        train={"steps": 2, "disable_sampling": False, "skip_first_sample": True},
        sample={"samples": [{"prompt": "a"}], "width": 64, "height": 96, "format": "png"},
        model={"name_or_path": str(without_vae(tmp_path / "model"))},
    )
    checked = next(Job(load_job(path)).checks())
    assert isinstance(checked, TrainingChecked) and not checked.problems
    assert list(checked.scan.tables[0].buckets) == [(64, 64)]
    assert "stages: encode text (text encoder), encode images, train (transformer)" in "\n".join(checked.lines)
    assert checked.memory is not None
    assert all("VAE" not in {**phase.device, **phase.host} for phase in checked.memory.plan.phases)
    assert run_job(path).status == "done"
    (drawn,) = (tmp_path / "output" / "job" / "samples").glob("*.png")
    with Image.open(drawn) as image:
        assert image.size == (64, 96)


def test_a_sample_that_is_smaller_than_a_token_is_refused(tmp_path: Path) -> None:
    path = write_job(
        tmp_path,
        adapter={"type": "subpixel", "subpixel_downscale_factor": 16},
        train={"disable_sampling": False},
        sample={"samples": [{"prompt": "a"}], "width": 16},
    )
    (problem,) = next(Job(load_job(path)).checks()).problems
    assert problem.what == "16 x 32 is below the smallest size that can be drawn, 32 x 32"


def test_all_weights_train_with_it_and_its_layers_are_in_their_file(tmp_path: Path) -> None:
    given: dict[str, Any] = {"adapter": {"type": "subpixel"}, "network": None, "train": {"full_finetune": True}}
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, parts = (write_job(tmp_path / name, **given) for name in ("whole", "parts"))
    assert run_job(whole).status == "done"
    assert run_job(parts, StopAfter(5 + 4 + 3)).status == "interrupted"
    assert run_job(parts).status == "done"
    files = [path.parent / "output" / "job" / "job.safetensors" for path in (whole, parts)]
    one, other = map(read_tensors, files)
    assert one["img_in.weight"].shape == (192, 768)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert read_metadata(files[0])["adapter_type"] == "subpixel"
