"""The FLUX.1 models as plain data.

Sources: Black Forest Labs' model repositories (sizes, licences, steps and guidance). Training defaults are the values
most common in users' job files for these models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extensions_built_in.diffusion_models.flux import size
from toolkit.cards import ModelCard, ReferenceLimits, Sign, Variant

_PARAMETERS = 11_901_408_320
# 512 rows from T5 and one with CLIP's pooled vector.
_PROMPT_EMBEDS = (513, 4096)


def _defaults(**sample: Any) -> Mapping[str, Mapping[str, Any]]:
    return {
        "train": {"lr": 1e-4, "timestep_type": "sigmoid"},
        "datasets": {"resolution": [1024], "caption_dropout_rate": 0.05},
        "save": {"lora_format": "diffusers"},  # as in ai-toolkit; diffusers cannot read the released names
        "sample": {"width": 1024, "height": 1024, "guidance_scale": 4.0, "sample_steps": 20, **sample},
    }


CARDS = (
    ModelCard(
        arch="flux",
        family="flux",
        label="FLUX.1 [dev]",
        summary="The predecessor of FLUX.2, with the most LoRAs and tools; 12 B parameters, guidance built in.",
        source="black-forest-labs/FLUX.1-dev",
        license="FLUX.1 [dev] Non-Commercial",
        is_gated=True,
        divisor_px=16,
        num_parameters=_PARAMETERS,
        prompt_embeds_shape=_PROMPT_EMBEDS,
        num_pooled_rows=1,
        num_heads=24,
        size=size.FLUX_1,
        capabilities=frozenset({"guidance_embed", "guidance_bypass", "assistant_lora", "context_parallel"}),
        defaults=_defaults(),
        notes=(
            "Accept the licence at https://huggingface.co/black-forest-labs/FLUX.1-dev and set HF_TOKEN.",
            "A LoRA inherits the licence: no commercial training.",
            "Negative prompts have no effect: guidance is distilled into the model.",
            "FLUX.1 [schnell] is trained as this arch, with model.assistant_lora_path; its licence is Apache-2.0.",
        ),
        names=("flux-1-dev", "flux1-dev"),
        variants=(
            Variant(
                label="FLUX.1 [schnell]",
                names=("flux-1-schnell", "flux1-schnell"),
                advice="Training undoes its four-step distillation, unless a training adapter prevents that: "
                "`model.assistant_lora_path: ostris/FLUX.1-schnell-training-adapter`.",
                consent="train_distilled",
                remedy="assistant_lora_path",
                defaults={"sample": {"guidance_scale": 1.0, "sample_steps": 4}},
                lacks=frozenset({"guidance_embed", "guidance_bypass"}),
                sign=Sign(
                    difference="have no guidance embedding",
                    config=("guidance_embeds", False),
                    absent="guidance_in.in_layer.weight",
                    present="time_in.in_layer.weight",
                ),
            ),
        ),
    ),
    ModelCard(
        arch="flux_kontext",
        family="flux",
        label="FLUX.1 Kontext [dev]",
        summary="FLUX.1 [dev] for editing: takes an image and a description of the change; 12 B parameters.",
        source="black-forest-labs/FLUX.1-Kontext-dev",
        license="FLUX.1 [dev] Non-Commercial",
        is_gated=True,
        divisor_px=16,
        num_parameters=_PARAMETERS,
        prompt_embeds_shape=_PROMPT_EMBEDS,
        num_pooled_rows=1,
        num_heads=24,
        size=size.FLUX_1,
        capabilities=frozenset(
            {"guidance_embed", "guidance_bypass", "assistant_lora", "references", "context_parallel"}
        ),
        reference_limits=ReferenceLimits(max_count=1, max_area_px=1024**2),
        defaults=_defaults(guidance_scale=2.5, sample_steps=28),
        notes=(
            "Accept the licence at https://huggingface.co/black-forest-labs/FLUX.1-Kontext-dev and set HF_TOKEN.",
            "A LoRA inherits the licence: no commercial training.",
            "It takes one reference image; images with and without a reference can be mixed in training.",
        ),
        names=("flux-1-kontext-dev", "flux1-kontext-dev", "flux1-dev-kontext"),
    ),
)
