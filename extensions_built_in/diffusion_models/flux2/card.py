"""The FLUX.2 models as plain data.

Sources: Black Forest Labs' model repositories (sizes, licences, steps and guidance). Training defaults are the values
most common in users' job files for these models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extensions_built_in.diffusion_models.flux2 import size
from toolkit.cards import ModelCard, ReferenceLimits, Variant

# Limits of Black Forest Labs' reference code; 2024 is not a typo for 2048.
REFERENCES = ReferenceLimits(min_side_px=64, max_aspect=8, max_area_px=2024**2, max_area_each_px=1024**2)


def _defaults(
    *, size_px: int, sample_steps: int, timestep_type: str, guidance_scale: float = 4.0
) -> Mapping[str, Mapping[str, Any]]:
    sample = {"width": size_px, "height": size_px, "guidance_scale": guidance_scale, "sample_steps": sample_steps}
    return {
        "train": {"lr": 1e-4, "timestep_type": timestep_type},
        "datasets": {"resolution": [size_px], "caption_dropout_rate": 0.05},
        "sample": sample,
    }


def _distilled(
    label: str,
    *,
    base: str,
    names: tuple[str, ...],
    source: str = "",
    why: str = "",
    remedy: str | None = "assistant_lora_path",
) -> Variant:
    or_else = f" Or name a training adapter in `model.{remedy}`." if remedy else ""
    return Variant(
        label=label,
        names=names,
        advice=f"Training undoes its distillation{why}: train {base}, and use the LoRA with either.{or_else}",
        consent="train_distilled",
        remedy=remedy,
        defaults={"sample": {"guidance_scale": 1.0, "sample_steps": 4}},
        index_key="is_distilled",
        source=source,
    )


CARDS = (
    ModelCard(
        arch="flux2",
        family="flux2",
        label="FLUX.2 [dev]",
        summary="The large model: best quality and best text in images; 32 B parameters, guidance built in.",
        source="black-forest-labs/FLUX.2-dev",
        license="FLUX Non-Commercial",
        is_gated=True,
        divisor_px=16,
        num_parameters=32_223_281_152,
        prompt_embeds_shape=(512, 15360),
        text_layer_width=6144,
        size=size.DEV,
        capabilities=frozenset({"guidance_embed", "references", "context_parallel"}),
        num_heads=48,
        reference_limits=REFERENCES,
        defaults=_defaults(size_px=1024, sample_steps=28, timestep_type="weighted"),
        notes=(
            "Accept the licence at https://huggingface.co/black-forest-labs/FLUX.2-dev and set HF_TOKEN.",
            "A LoRA inherits the licence: no commercial training.",
            "Negative prompts have no effect: guidance is distilled into the model.",
            "Its text encoder is mistralai/Mistral-Small-3.2-24B-Instruct-2506 (not 3.1, which encodes differently); "
            "the first 30 of its 40 layers are loaded. The copy in the model's repository is used unless "
            "model.te_name_or_path is set.",
        ),
        names=("flux-2-dev", "flux2-dev"),
    ),
    ModelCard(
        arch="flux2_klein_4b",
        family="flux2",
        label="FLUX.2 [klein] base 4B",
        summary="The small model, with a permissive licence; its LoRAs also work on the four-step klein 4B.",
        source="black-forest-labs/FLUX.2-klein-base-4B",
        license="Apache-2.0",
        is_gated=False,
        divisor_px=16,
        num_parameters=3_875_544_576,
        prompt_embeds_shape=(512, 7680),
        text_layer_width=3072,
        size=size.KLEIN_4B,
        capabilities=frozenset({"true_cfg", "references", "context_parallel", "assistant_lora"}),
        num_heads=24,
        reference_limits=REFERENCES,
        defaults=_defaults(size_px=1024, sample_steps=25, timestep_type="weighted"),
        notes=("Train on the base model, not on the distilled FLUX.2-klein-4B: training undoes the distillation.",),
        names=("flux-2-klein-base-4b",),
        variants=(
            _distilled(
                "the distilled FLUX.2 [klein] 4B",
                base="black-forest-labs/FLUX.2-klein-base-4B",
                names=("flux-2-klein-4b",),
                source="black-forest-labs/FLUX.2-klein-4B",
            ),
        ),
    ),
    ModelCard(
        arch="flux2_klein_9b",
        family="flux2",
        label="FLUX.2 [klein] base 9B",
        summary="Between klein 4B and dev in size and quality; its LoRAs also work on the four-step klein 9B.",
        source="black-forest-labs/FLUX.2-klein-base-9B",
        license="FLUX Non-Commercial",
        is_gated=True,
        divisor_px=16,
        num_parameters=9_078_581_248,
        prompt_embeds_shape=(512, 12288),
        text_layer_width=4096,
        size=size.KLEIN_9B,
        capabilities=frozenset({"true_cfg", "references", "context_parallel", "assistant_lora"}),
        num_heads=32,
        reference_limits=REFERENCES,
        defaults=_defaults(size_px=1024, sample_steps=25, timestep_type="weighted"),
        notes=(
            "Accept the licence at https://huggingface.co/black-forest-labs/FLUX.2-klein-base-9B and set HF_TOKEN.",
            "A LoRA inherits the licence: no commercial training.",
            "Train on the base model, not on the distilled FLUX.2-klein-9B: training undoes the distillation.",
        ),
        names=("flux-2-klein-base-9b",),
        variants=(
            _distilled(
                "the distilled FLUX.2 [klein] 9B",
                base="black-forest-labs/FLUX.2-klein-base-9B",
                names=("flux-2-klein-9b",),
                source="black-forest-labs/FLUX.2-klein-9B",
            ),
        ),
    ),
    ModelCard(
        arch="flux2_klein_9b_kv",
        family="flux2",
        label="FLUX.2 [klein] 9B KV",
        summary="Klein 9B that reads reference images once instead of at every step, for fast four-step edits.",
        source="black-forest-labs/FLUX.2-klein-9b-kv",
        license="FLUX Non-Commercial",
        is_gated=True,
        divisor_px=16,
        num_parameters=9_078_581_248,
        size=size.KLEIN_9B_KV,
        prompt_embeds_shape=(512, 12288),
        text_layer_width=4096,
        capabilities=frozenset({"fixed_guidance", "references"}),
        reference_limits=REFERENCES,
        defaults=_defaults(size_px=1024, sample_steps=4, timestep_type="weighted", guidance_scale=1.0),
        notes=(
            "Accept the licence at https://huggingface.co/black-forest-labs/FLUX.2-klein-9b-kv and set HF_TOKEN.",
            "A LoRA inherits the licence: no commercial training.",
            "Train it on edits only: for anything else train klein base 9B, whose LoRAs work here, too.",
            "Its tensors have the same shapes as those of klein 9B: a renamed file cannot be recognised.",
        ),
        variants=(
            _distilled(
                "FLUX.2 [klein] 9B KV",
                base="black-forest-labs/FLUX.2-klein-base-9B",
                names=("flux-2-klein-9b-kv",),
                why=", and is only worth it for edits that use its own way of reading reference images",
                remedy=None,
            ),
        ),
    ),
    ModelCard(
        arch="flux2_tiny",
        family="flux2",
        label="FLUX.2 tiny (demo)",
        summary="A toy klein model that draws coloured shapes, for a first run and for tests on any CPU.",
        source="assets/flux2_tiny",
        license="as this repository",
        is_gated=False,
        divisor_px=16,
        num_parameters=4_608_512,
        prompt_embeds_shape=(48, 192),
        text_layer_width=192,
        size=size.TINY,
        capabilities=frozenset({"true_cfg", "references", "context_parallel", "assistant_lora"}),
        num_heads=6,
        reference_limits=REFERENCES,
        defaults=_defaults(size_px=128, sample_steps=20, timestep_type="sigmoid"),
        notes=("It only knows the words listed in assets/flux2_tiny/README.md.",),
    ),
)
