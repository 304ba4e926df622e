"""Samples see references as training does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinKVPipeline, Flux2KleinPipeline, Flux2Pipeline
from PIL import Image

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.sampling import draw
from tests.tiny import tiny_model
from toolkit.config import SampleItem
from toolkit.data.images import load_image, load_pixels
from toolkit.data.references import ReferenceRules, measure_references

ITEM = SampleItem("a red circle", "", 32, 32, 0, 1.0, 1, 1.0)
EMBEDS = torch.zeros(1, 48, 192)


@pytest.fixture(scope="module")
def model() -> Flux2TinyModel:
    return tiny_model("vae", "transformer")


def _encode(pixels: torch.Tensor) -> torch.Tensor:
    """Stands for the VAE, which takes seconds for such pictures: the mean of each cell, [1, 64, H / 16, W / 16]."""
    return torch.nn.functional.avg_pool2d(pixels, 16).mean(dim=1, keepdim=True).expand(-1, 64, -1, -1)


class _Seen(Exception):
    """What the transformer was given."""


@pytest.mark.parametrize("kind", [Flux2Pipeline, Flux2KleinPipeline, Flux2KleinKVPipeline])
@pytest.mark.parametrize("sizes", [[(1504, 1200)], [(96, 64), (1100, 1000)]], ids=["one", "two"])
def test_a_sample_sees_the_tokens_that_training_sees(
    model: Flux2TinyModel, kind: Any, sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    """Large pictures: below a megapixel nothing would be scaled. The transformer is not run."""
    paths = [tmp_path / f"{number}.png" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Image.linear_gradient("L").resize(size).convert("RGB").save(path)
    rules = ReferenceRules(model.card.reference_limits, model.card.divisor_px)
    infos, problems = measure_references(paths, rules.limits)
    assert not problems
    fitted = rules.fit(infos, (32, 32), background=(0, 0, 0))
    trained = [_encode(load_pixels(picture, background=(0, 0, 0))[None]) for picture in fitted]
    seen: list[torch.Tensor] = []

    def look(_: Any, __: Any, arguments: dict[str, Any]) -> None:
        seen.append(arguments["hidden_states"])
        raise _Seen

    pipeline = kind(transformer=model.transformer, **model._pipeline_parts())
    handle = model.transformer.register_forward_pre_hook(look, with_kwargs=True)
    arguments = {
        "prompt_embeds": EMBEDS,
        "image": [load_image(picture, background=(0, 0, 0)) for picture in fitted],
        **({} if kind is Flux2KleinKVPipeline else {"guidance_scale": 1.0}),
    }
    try:
        with pytest.raises(_Seen), torch.autocast("cpu", torch.bfloat16):
            draw(pipeline, ITEM, arguments, [torch.Generator()], encode=_encode, limit=2048**2)
    finally:
        handle.remove()
    tokens = torch.cat([latents.flatten(2).transpose(1, 2) for latents in trained], dim=1)  # [1, S, C]
    own = (32 // 16) ** 2
    assert seen[0].shape[1] == own + tokens.shape[1]
    references = seen[0][:, : tokens.shape[1]] if kind is Flux2KleinKVPipeline else seen[0][:, own:]
    torch.testing.assert_close(references, tokens, atol=1e-5, rtol=1e-5)
    if sizes == [(1504, 1200)]:
        assert tokens.shape[1] == 7050
