"""A released file, loaded, saved by a full fine-tune that changed nothing, and read by diffusers, is the same file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Klein4BModel, Flux2Model
from extensions_built_in.diffusion_models.flux2.weights import to_single_file
from tests import layouts
from tests.tiny import tiny_config
from toolkit.train.trainable import TransformerWeights

KINDS = {"dev": (Flux2Model, "flux2-dev"), "klein": (Flux2Klein4BModel, "flux-2-klein-base-4b")}


def _bytes(state: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    return {
        name: (tensor.dtype, tensor.shape, tensor.contiguous().view(torch.uint8).numpy().tobytes())
        for name, tensor in state.items()
    }


def _full_fine_tune(place: Path, kind: str, save_format: str) -> TransformerWeights:
    model_class, _ = KINDS[kind]
    config = tiny_config(name_or_path=place, arch=model_class.arch)
    model = model_class(config, device=torch.device("cpu"), dtype=torch.bfloat16)
    model.transformer_dtype = torch.float32  # as a full fine-tune trains it
    model.load("transformer")
    return TransformerWeights(model, save_format=save_format)


@pytest.mark.parametrize("save_format", ["safetensors", "diffusers"])
@pytest.mark.parametrize("kind", KINDS)
def test_bf16_weights_come_back_to_the_released_names_bit_for_bit(kind: str, save_format: str, tmp_path: Path) -> None:
    small = layouts.small_transformer(guidance_embeds=kind == "dev")
    original = layouts.write_model(tmp_path / "model", "released", small, stem=KINDS[kind][1])
    released = _bytes(load_file(original))
    assert {dtype for dtype, _, _ in released.values()} == {torch.bfloat16}
    first, *_ = _full_fine_tune(original, kind, save_format).save(tmp_path / "out", dtype=torch.bfloat16, metadata={})
    if save_format == "safetensors":
        assert _bytes(load_file(first)) == released
        folder = tmp_path / "through_diffusers"
        _full_fine_tune(first, kind, "diffusers").save(folder, dtype=torch.bfloat16, metadata={})
    else:
        folder = tmp_path / "out"
    theirs = Flux2Transformer2DModel.from_pretrained(folder, subfolder="transformer", dtype=torch.bfloat16)
    assert _bytes(to_single_file(theirs.state_dict())) == released
    again, *_ = _full_fine_tune(folder, kind, "safetensors").save(tmp_path / "b", dtype=torch.bfloat16, metadata={})
    assert _bytes(load_file(again)) == released
