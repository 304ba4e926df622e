"""Our FLUX.2 against numbers that Black Forest Labs' reference code gave (see README.md here)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from safetensors.torch import load_file
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.released_files import SCHEDULER
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.golden.models import ReferenceSinusoid, reference_transformer, transformer
from tests.golden.recipe import numbers

FOLDER = Path(__file__).parent
KINDS = ("dev", "klein")
GUIDANCE = 4.0
SIGMAS = {"1.0": [1.0, 1.0], "0.37": [0.37, 0.81], "0.0": [0.0, 0.0]}


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(FOLDER / "transformer.safetensors")


def _table(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def _error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


def _latents() -> Tensor:
    return numbers("latents", (2, 128, 4, 6))


def _prompt_embeds() -> Tensor:
    return numbers("prompt_embeds", (2, 7, 48))


def _asked(kind: str, sigma: Tensor) -> list[list[float]]:
    """The values that the sinusoid is asked for in one pass, in fp32: 1000 times sigma and guidance, exactly."""
    values = [sigma, torch.full_like(sigma, GUIDANCE)] if kind == "dev" else [sigma]
    return [(1000 * value).tolist() for value in values]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_velocity_is_the_references(kind: str, sigma: str, reference: dict[str, Tensor]) -> None:
    model, sinusoid = reference_transformer(kind)
    at = torch.tensor(SIGMAS[sigma])
    found = predict_velocity(model, _latents(), at, _prompt_embeds(), guidance=GUIDANCE)
    assert [values.tolist() for values in sinusoid.asked] == _asked(kind, at)
    assert _error(found, reference[f"{kind}.velocity.{sigma}"]) < 1e-6


def _phase_and_bound() -> tuple[Tensor, Tensor]:
    """Phases of the sinusoid in float64 for the values that are used here, [V, 128], and how far fp32 may be off them.

    With u = 2^-24, half a unit in the last place: the exponent -ln(10000) * k / 128 has two roundings, so a frequency
    is off by 2 u times its exponent; `exp` itself and the product with the value by 2 u and 1 u. All of it is relative
    to the phase, and the phase goes up to 4000.
    """
    exponent = math.log(10000) * torch.arange(128, dtype=torch.float64) / 128
    phase = torch.tensor([0.0, 370.0, 810.0, 1000.0, 4000.0]).double()[:, None] * (-exponent).exp()
    return phase, (2 * exponent + 3) * phase * 2**-24


@pytest.mark.parametrize("kind", KINDS)
def test_the_librarys_sinusoid_is_exact_as_far_as_fp32_goes(kind: str) -> None:
    phase, bound = _phase_and_bound()
    found = transformer(kind).time_guidance_embed.time_proj(torch.tensor([0.0, 370.0, 810.0, 1000.0, 4000.0]))
    off = (found.double() - torch.cat([phase.cos(), phase.sin()], dim=-1)).abs()
    assert (off <= torch.cat([bound, bound], dim=-1) + 2**-23).all()  # cos and sin: two units in the last place below 1


def test_the_stored_frequencies_are_exact_as_far_as_fp32_goes() -> None:
    phase, bound = _phase_and_bound()
    frequency, bound = phase[-1] / 4000, bound[-1] / 4000
    assert ((ReferenceSinusoid().frequencies.double() - frequency).abs() <= bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_librarys_sinusoid_the_velocity_is_the_references_as_far_as_its_phase_allows(
    kind: str, reference: dict[str, Tensor]
) -> None:
    model = transformer(kind)
    found = predict_velocity(model, _latents(), torch.ones(2), _prompt_embeds(), guidance=GUIDANCE)
    assert _error(found, reference[f"{kind}.velocity.1.0"]) < 2e-4


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**SCHEDULER)


@pytest.mark.parametrize(
    "row", _table("schedule.json"), ids=lambda row: f"{row['num_tokens']} tokens {row['steps']} steps"
)
def test_time_shift_and_schedule_are_the_references(row: dict[str, Any]) -> None:
    mu = compute_empirical_mu(image_seq_len=row["num_tokens"], num_steps=row["steps"])
    assert mu == pytest.approx(row["mu"], rel=1e-9)
    scheduler, steps = _scheduler(), row["steps"]
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    assert scheduler.sigmas.tolist() == pytest.approx(row["sigmas"], rel=1e-6, abs=1e-7)
    assert (scheduler.timesteps / 1000).tolist() == pytest.approx(row["sigmas"][:-1], rel=1e-6)


def test_position_ids_and_packing_are_the_references(reference: dict[str, Tensor]) -> None:
    latents = _latents()
    assert torch.equal(Flux2Pipeline._prepare_latent_ids(latents[:1])[0], reference["image_ids"])
    assert torch.equal(Flux2Pipeline._prepare_text_ids(_prompt_embeds()[:1])[0], reference["text_ids"])
    assert torch.equal(Flux2Pipeline._pack_latents(latents), reference["tokens"])
    references = [numbers("reference.0", (1, 128, 3, 2)), numbers("reference.1", (1, 128, 2, 5))]
    assert torch.equal(Flux2Pipeline._prepare_image_ids(references)[0], reference["reference_ids"])


@pytest.mark.parametrize("kind", KINDS)
def test_eight_steps_of_sampling_are_the_references(kind: str, reference: dict[str, Tensor]) -> None:
    model, _ = reference_transformer(kind)
    parts = {"transformer": model, "scheduler": _scheduler(), "vae": None, "text_encoder": None, "tokenizer": None}
    if kind == "dev":
        pipeline, guidance = Flux2Pipeline(**parts), GUIDANCE
    else:
        pipeline, guidance = Flux2KleinPipeline(is_distilled=False, **parts), 1.0
    pipeline.set_progress_bar_config(disable=True)
    final: dict[str, Tensor] = {}

    def keep(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        final["tokens"] = values["latents"]
        if _step == 7:
            raise StopIteration
        return values

    with pytest.raises(StopIteration):  # what comes after the last step needs a VAE
        pipeline(
            prompt_embeds=_prompt_embeds(),
            latents=_latents(),
            height=64,
            width=96,
            num_inference_steps=8,
            guidance_scale=guidance,
            output_type="latent",
            callback_on_step_end=keep,
        )
    found = final["tokens"].transpose(1, 2).reshape(2, 128, 4, 6)
    assert _error(found, reference[f"{kind}.sample"]) < 1e-4
