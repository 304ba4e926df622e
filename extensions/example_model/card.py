"""What the command line, the checks and the docs know about the model. Must not import torch."""

from toolkit.cards import ModelCard

CARDS = (
    ModelCard(
        arch="example_pixels",
        family="example_pixels",
        label="Example: pixels",
        summary="A toy that paints coarse pixels: the model that docs/extensions.md builds.",
        source="example/random-weights",
        license="as this repository",
        is_gated=False,
        divisor_px=4,
        num_parameters=623_920,
        prompt_embeds_shape=(32, 64),
        defaults={
            "train": {"lr": 1e-3, "timestep_type": "sigmoid"},
            "datasets": {"resolution": [64]},
            "sample": {"width": 64, "height": 64, "guidance_scale": 1.0, "sample_steps": 8},
        },
        notes=("It is untrained: train all of it (train.full_finetune) before you train a LoRA.",),
    ),
)
