"""Our VAE, references and prompts against numbers of Black Forest Labs' reference code (see README.md here)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Mistral3ForConditionalGeneration

from extensions_built_in.diffusion_models.flux2 import latents
from extensions_built_in.diffusion_models.flux2.card import CARDS
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Model
from extensions_built_in.diffusion_models.flux2.loading import vae_recipe
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.golden.models import reference_transformer, single_file
from tests.golden.recipe import numbers, weight
from tests.tiny import tiny_config
from tests.tiny_text import write_tiny_mistral
from toolkit.data.references import fit_reference
from toolkit.weights.layouts import find_component

FOLDER = Path(__file__).parent
PROMPTS = ["a red circle", "", "two [IMG] lines\nand a word", "long " * 200]
SIGMAS = {"1.0": [1.0, 1.0], "0.37": [0.37, 0.81], "0.0": [0.0, 0.0]}


def _error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


def _references() -> list[Tensor]:
    shapes = {"reference.0": (128, 3, 2), "reference.1": (128, 2, 5)}
    return [numbers(name, shape).expand(2, *shape) for name, shape in shapes.items()]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("kind", ["dev", "klein"])
def test_the_velocity_with_two_references_is_the_references(kind: str, sigma: str) -> None:
    found = predict_velocity(
        reference_transformer(kind)[0],
        numbers("latents", (2, 128, 4, 6)),
        torch.tensor(SIGMAS[sigma]),
        numbers("prompt_embeds", (2, 7, 48)),
        guidance=4.0,
        references=_references(),
    )
    expected = load_file(FOLDER / "transformer.safetensors")[f"{kind}.velocity_with_references.{sigma}"]
    assert _error(found, expected) < 1e-6


@pytest.mark.parametrize("kind", ["dev", "klein"])
def test_eight_steps_with_two_references_are_the_references(kind: str) -> None:
    schedule = json.loads((FOLDER / "schedule.json").read_text(encoding="utf-8"))
    sigmas = next(row["sigmas"] for row in schedule if (row["num_tokens"], row["steps"]) == (24, 8))
    model, found = reference_transformer(kind)[0], numbers("latents", (2, 128, 4, 6))
    embeds = numbers("prompt_embeds", (2, 7, 48))
    for sigma, following in itertools.pairwise(sigmas):
        at = torch.full((2,), sigma)
        velocity = predict_velocity(model, found, at, embeds, guidance=4.0, references=_references())
        found = found + (following - sigma) * velocity
    assert _error(found, load_file(FOLDER / "transformer.safetensors")[f"{kind}.sample_with_references"]) < 1e-4


@pytest.mark.parametrize("row", json.loads((FOLDER / "reference_sizes.json").read_text(encoding="utf-8")), ids=str)
def test_references_are_prepared_to_the_references_sizes(row: dict[str, Any]) -> None:
    limits = next(card.reference_limits for card in CARDS if card.arch == "flux2")
    fit = fit_reference(tuple(row["size"]), limits=limits, divisor=16, num_references=row["references"], target=None)
    assert fit.bucket == tuple(row["prepared"])


def test_the_autoencoder_is_the_references(tmp_path: Path) -> None:
    save_file(single_file("autoencoder"), tmp_path / "ae.safetensors")
    files = find_component(str(tmp_path / "ae.safetensors"), "vae", setting="model.vae_path")
    vae = vae_recipe(files).load(dtype=torch.float32, device=torch.device("cpu"))
    expected = load_file(FOLDER / "autoencoder.safetensors")
    assert _error(latents.encode(vae, numbers("pixels", (2, 3, 32, 48))), expected["latents"]) < 1e-5
    decoded = latents.decode(vae, numbers("normalised_latents", (2, 128, 2, 3)))
    assert _error(decoded, expected["pixels"]) < 1e-5


def test_prompts_of_dev_are_encoded_as_the_references(tmp_path: Path) -> None:
    write_tiny_mistral(tmp_path)
    encoder = Mistral3ForConditionalGeneration.from_pretrained(tmp_path / "text_encoder", dtype=torch.float32)
    encoder.load_state_dict({name: weight(name, tensor.shape) for name, tensor in encoder.state_dict().items()})
    encoder.save_pretrained(tmp_path / "text_encoder")

    class TinyDev(Flux2Model):
        """Dev with a small encoder."""

        text_layers = (1, 2, 3)
        max_text_tokens = 320

    config = tiny_config(name_or_path=tmp_path, arch="flux2")
    model = TinyDev(config, device=torch.device("cpu"), dtype=torch.float32)
    model.load("text_encoder")
    found = torch.cat([model.get_prompt_embeds([prompt]) for prompt in PROMPTS])[:, ::8]
    assert _error(found, load_file(FOLDER / "prompts.safetensors")["prompt_embeds"]) < 1e-5
