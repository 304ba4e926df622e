"""The models of the reference runs, loaded from the names of the released single files."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import Flux2Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from torch import Tensor

from tests.golden.recipe import weights

FOLDER = Path(__file__).parent


def single_file(kind: str) -> dict[str, Tensor]:
    """Weights by their released names: `dev`, `klein` or `autoencoder`."""
    return weights(json.loads((FOLDER / "shapes.json").read_text(encoding="utf-8"))[kind])


def empty_transformer(kind: str) -> Flux2Transformer2DModel:
    """A transformer of the shapes of the reference run, with torch's own weights."""
    return Flux2Transformer2DModel(
        in_channels=128,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=kind == "dev",
    ).eval()


def transformer(kind: str, state: dict[str, Tensor] | None = None) -> Flux2Transformer2DModel:
    """A transformer with the weights of a single file, by default those of the reference run."""
    model = empty_transformer(kind)
    model.load_state_dict(convert_flux2_transformer_checkpoint_to_diffusers(dict(state or single_file(kind))))
    return model.requires_grad_(False)
