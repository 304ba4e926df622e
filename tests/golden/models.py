"""The models of the reference runs, loaded from the names of the released single files."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import Flux2Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file
from torch import Tensor, nn

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


class ReferenceSinusoid(nn.Module):
    """Stands for the library's sinusoid: the same features on any processor, from the frequencies of the reference run.

    Attributes:
        asked: every vector of values, [B], whose features were asked for: 1000 * sigma, 1000 * guidance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frequencies = load_file(FOLDER / "frequencies.safetensors")["frequencies"]  # [128]
        self.asked: list[Tensor] = []

    def forward(self, values: Tensor) -> Tensor:
        """Cosines, then sines, of values [B] at each frequency: [B, 256]."""
        self.asked.append(values)
        phase = (values[:, None] * self.frequencies).double()  # one fp32 product, as in the reference: same everywhere
        return torch.cat([phase.cos(), phase.sin()], dim=-1).to(values.dtype)


def reference_transformer(kind: str) -> tuple[Flux2Transformer2DModel, ReferenceSinusoid]:
    """The transformer of the reference run behind its sinusoid, and that sinusoid."""
    model, sinusoid = transformer(kind), ReferenceSinusoid()
    model.time_guidance_embed.time_proj = sinusoid
    return model, sinusoid
