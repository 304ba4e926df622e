"""extensions_built_in.diffusion_models.flux: files in every layout, and files of other models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from extensions_built_in.diffusion_models.flux.released_files import (
    SCHEDULER,
    SCHNELL_SCHEDULER,
    from_single_file,
    to_single_file,
)
from tests import layouts
from tests.tiny import TINY, tiny_config, tiny_model
from tests.tiny_flux import KINDS, LAYOUTS, make_tiny_flux, tiny_flux, tiny_transformer, tiny_vae
from toolkit.errors import UserError
from toolkit.util.get_model import get_model_class

RUNS = [(kind, layout) for kind in KINDS for layout in LAYOUTS if kind != "kontext" or "fp8" not in layout]
Sections = dict[str, dict[str, Any]]


def _same(module: nn.Module, expected: nn.Module, *, tolerance: float = 0.0) -> bool:
    ours, theirs = module.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name].float(), tensor.float(), rtol=tolerance, atol=0.01 * tolerance)
        for name, tensor in theirs.items()
    )


@pytest.mark.parametrize(("kind", "layout"), RUNS)
def test_every_layout_gives_the_weights_it_was_made_of(kind: str, layout: str, tmp_path: Path) -> None:
    section = make_tiny_flux(tmp_path, kind, layout)
    model = tiny_flux(section, "transformer", "vae")
    expected = tiny_transformer(guidance_embeds=kind != "schnell")
    assert _same(model.transformer, expected, tolerance=0.13 if "fp8" in layout else 0)
    assert _same(model.vae, tiny_vae())
    assert tuple(model.transformer.config.axes_dims_rope) == tuple(expected.config.axes_dims_rope)
    assert (model.vae.config.scaling_factor, model.vae.config.shift_factor) == (0.3611, 0.1159)
    assert not any(parameter.requires_grad for parameter in model.transformer.parameters())
    scheduler = model.get_generation_pipeline().scheduler
    for key, value in (SCHNELL_SCHEDULER if kind == "schnell" else SCHEDULER).items():
        assert scheduler.config[key] == value


def test_the_released_layout_is_that_of_the_released_files() -> None:
    released = to_single_file(tiny_transformer().state_dict())
    assert released["double_blocks.1.img_attn.qkv.weight"].shape == (3 * 64, 64)
    assert released["single_blocks.0.linear1.bias"].shape == (7 * 64,)
    assert released["single_blocks.0.norm.key_norm.scale"].shape == (32,)
    assert "final_layer.adaLN_modulation.1.weight" in released
    back = {name: part for key, tensor in released.items() for name, part in from_single_file(key, tensor).items()}
    expected = tiny_transformer().state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in expected.items())


def test_the_vae_of_every_layout_has_one_fingerprint(tmp_path: Path) -> None:
    sections = [make_tiny_flux(tmp_path / layout, "dev", layout) for layout in ("diffusers", "released")]
    assert len({tiny_flux(section).fingerprint("vae") for section in sections}) == 1


def _check(section: dict[str, Any]) -> None:
    config = tiny_config(**section)
    get_model_class(config)(config, device=torch.device("cpu"), dtype=torch.float32).check_files()


@pytest.mark.parametrize("layout", ["diffusers", "released", "comfy"])
def test_weights_of_flux_2_are_named_where_the_job_says_flux_1(layout: str, tmp_path: Path) -> None:
    transformer = layouts.small_transformer(guidance_embeds=True)
    place = layouts.write_model(tmp_path, layout, transformer, stem="flux2-dev")
    with pytest.raises(UserError, match=r"is a FLUX\.2 model: set `arch: flux2`"):
        _check({"name_or_path": place, "arch": "flux"})


@pytest.mark.parametrize("layout", ["diffusers", "released", "comfy"])
def test_weights_of_flux_1_are_named_where_the_job_says_flux_2(layout: str, tmp_path: Path) -> None:
    section = make_tiny_flux(tmp_path, "dev", layout)
    with pytest.raises(UserError, match=r"is a FLUX\.1 model"):
        _check({**section, "arch": "flux2"})


def test_the_vae_of_flux_2_is_told_apart(sections: Sections) -> None:
    with pytest.raises(UserError, match=r"is FLUX.2's VAE"):
        _check({**sections["dev"], "vae_path": TINY / "vae"})


def test_schnell_is_no_kontext_and_fill_is_refused(sections: Sections, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no guidance embedding, as in schnell.*Set `arch: flux`"):
        _check({**sections["schnell"], "arch": "flux_kontext"})
    state = to_single_file(tiny_transformer().state_dict())
    state["img_in.weight"] = torch.zeros(64, 6 * 64)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "fill.safetensors")
    with pytest.raises(UserError, match="Fill, Depth or Canny"):
        _check({"name_or_path": tmp_path / "fill.safetensors", "arch": "flux"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"double_blocks.1.img_mod.lin.weight": None}, "1 missing: transformer_blocks.1.norm1.linear.weight"),
        ({"single_blocks.0.linear1.weight": torch.zeros(9 * 64, 64)}, "1 unknown: single_blocks.0.linear1.weight"),
        ({"txt_in.weight": None}, "incomplete: context_embedder.weight is missing"),
        ({"more.weight": torch.zeros(1)}, "1 unknown: more.weight"),
    ],
)
def test_damaged_files_are_explained(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = {**to_single_file(tiny_transformer().state_dict()), **change}
    path = tmp_path / "flux1-dev.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items() if tensor is not None}, path)
    with pytest.raises(UserError, match=message):
        _check({"name_or_path": path, "arch": "flux"})


def test_text_encoders_of_another_kind_or_with_holes_are_named(sections: Sections, tmp_path: Path) -> None:
    section = make_tiny_flux(tmp_path, "dev", "diffusers")
    config = tmp_path / "text_encoder_2" / "config.json"
    stored = config.read_text()
    config.write_text(json.dumps({**json.loads(stored), "model_type": "bert"}))
    with pytest.raises(UserError, match=r"a text encoder of type `bert`, but FLUX\.1 was trained with `t5`"):
        tiny_flux(section, "text_encoder")
    config.write_text(stored)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    state = load_file(weights)
    state.pop(next(name for name in state if name.endswith("final_layer_norm.weight")))
    save_file(state, weights)
    with pytest.raises(UserError, match=r"1 missing: final_layer_norm\.weight"):
        tiny_flux(section, "text_encoder")
    single = tmp_path / "t5xxl.safetensors"
    save_file(state, single)
    with pytest.raises(UserError, match=r"a single file.*text_encoder_2"):
        tiny_flux({**sections["dev"], "te_name_or_path": str(single)}, "text_encoder")


def test_clip_is_read_by_the_names_of_the_released_file_too(sections: Sections, tmp_path: Path) -> None:
    section = make_tiny_flux(tmp_path, "dev", "diffusers")
    weights = tmp_path / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{name}": tensor for name, tensor in load_file(weights).items()}, weights)
    ours, plain = (tiny_flux(one, "text_encoder").get_prompt_embeds(["a cat"]) for one in (section, sections["dev"]))
    assert torch.equal(ours, plain)


def test_a_vae_of_flux_1_is_no_vae_of_flux_2(tmp_path: Path) -> None:
    tiny_vae().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"not FLUX\.2's VAE"):
        tiny_model(vae_path=tmp_path).check_files()
