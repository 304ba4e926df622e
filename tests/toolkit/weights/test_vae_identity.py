"""toolkit.weights.vae_identity"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Klein9BModel, Flux2Model
from extensions_built_in.diffusion_models.flux2.latents import ENCODER_SETTINGS
from tests.tiny import TINY, tiny_config, tiny_model
from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.vae_identity import vae_fingerprint

WEIGHTS = TINY / "vae" / "diffusion_pytorch_model.safetensors"
CONFIG = TINY / "vae" / "config.json"


def fingerprint(weights: Path, folder: Path | None, *, dtype: torch.dtype = torch.float32) -> str:
    files = ComponentFiles(weights, folder, (weights,))
    return vae_fingerprint(files, settings=ENCODER_SETTINGS, dtype=dtype)


OURS = fingerprint(WEIGHTS, CONFIG.parent)


def test_every_arch_with_one_vae_shares_its_latents() -> None:
    fingerprints = {
        kind(tiny_config(arch=kind.arch), device=torch.device("cpu"), dtype=torch.float32).fingerprint("vae")
        for kind in (Flux2Model, Flux2Klein9BModel)
    }
    assert fingerprints == {tiny_model().fingerprint("vae")}


def test_other_names_files_and_decoders_are_the_same_vae(tmp_path: Path) -> None:
    tensors = load_file(WEIGHTS)
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("quant_conv."):
            renamed[f"encoder.{name}"] = tensor
        elif name.endswith("to_q.weight") and name.startswith("encoder"):
            renamed[name.replace("to_q", "q")] = tensor[:, :, None, None].contiguous()
        elif name.startswith("decoder."):
            renamed[name] = tensor + 1
        else:
            renamed[name] = tensor
    save_file(renamed, tmp_path / "ae.safetensors")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(CONFIG.read_text()), "_name_or_path": "elsewhere", "sample_size": 64}))
    assert fingerprint(tmp_path / "ae.safetensors", tmp_path) == OURS


@pytest.mark.parametrize("name", ["encoder.conv_in.weight", "bn.running_mean", "quant_conv.bias"])
def test_another_number_in_the_encoder_is_another_vae(tmp_path: Path, name: str) -> None:
    tensors = load_file(WEIGHTS)
    tensors[name] = tensors[name] * 1.01 + 0.01
    save_file(tensors, tmp_path / "vae.safetensors")
    assert fingerprint(tmp_path / "vae.safetensors", CONFIG.parent) != OURS


def test_a_setting_that_shapes_latents_is_part_of_it(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(CONFIG.read_text()), "batch_norm_eps": 1e-5}))
    assert fingerprint(WEIGHTS, tmp_path) != OURS


def test_another_dtype_makes_other_latents() -> None:
    assert fingerprint(WEIGHTS, CONFIG.parent, dtype=torch.bfloat16) != OURS


def test_files_without_an_encoder_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    shutil.copy(WEIGHTS, damaged)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"damaged\.safetensors: cannot be read"):
        fingerprint(damaged, None)
    save_file({"decoder.x": torch.zeros(1)}, tmp_path / "small_decoder.safetensors")
    with pytest.raises(UserError, match=r"small_decoder\.safetensors: no VAE encoder found"):
        fingerprint(tmp_path / "small_decoder.safetensors", None)
