"""The settings that `benchmarks.quality` compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toolkit.optimizers.choices import OPTIMIZERS

Settings = dict[str, Any]
"""Settings of a job by section, over those of every row."""
PLAIN = "plain"


@dataclass(frozen=True)
class Row:
    """Settings to compare.

    Attributes:
        task: a key of `TASKS`.
        name: the settings in words.
        settings: by section, over those of every row; `dataset` holds those of the task's own dataset.
        regularization: settings of the set of ordinary images; None to train without it.
        share: share of the task's steps.
        group: the table that the row belongs to.
    """

    task: str
    name: str
    settings: Settings = field(default_factory=dict)
    regularization: Settings | None = None
    share: float = 1.0
    group: str = "objectives"

    @property
    def key(self) -> str:
        """The name of the row in the results."""
        return f"{self.task}: {self.name}"


def _train(**settings: Any) -> Settings:
    return {"train": settings}


TWICE_THE_STEPS = Row("object", "regularisation set, twice the steps", regularization={}, share=2)
CLASS_PRESERVED = Row(
    "object",
    "class preserved",
    _train(diff_output_preservation=True, diff_output_preservation_class="medium red circle"),
)
OBJECT_PLAIN = Row("object", PLAIN)
"""What rows are compared with: a LoRA of rank 32 under AdamW, with sigmoid noise levels and `content`."""
OBJECTIVES = (
    OBJECT_PLAIN,
    Row("object", "regularisation set", regularization={}),
    TWICE_THE_STEPS,
    Row("object", "regularisation set as the base predicts", regularization={"prior_reg": True}),
    CLASS_PRESERVED,
    Row("object", "blank prompt preserved", _train(blank_prompt_preservation=True)),
    Row("object", "guidance-aware", _train(do_guidance_loss=True)),
    Row("object", "differential guidance", _train(do_differential_guidance=True)),
    Row("style", PLAIN),
    Row("style", "regularisation set", regularization={}),
    Row("style", "class preserved", _train(diff_output_preservation=True)),
    Row("masked", "without the mask", {"dataset": {"mask_path": None}}),
    Row("masked", "mask"),
    Row("masked", "mask, the rest as the base", _train(inverted_mask_prior=True)),
)
EDITS = (  # three times as slow
    Row("edit", PLAIN),
    Row("edit", "noise: linear", _train(timestep_type="linear", content_or_style="balanced")),
)

SHORT = 0.75
"""Share of the steps at which networks, optimizers, noise levels, weightings and distances are compared: a plain run
has not learned all by then, so that a faster one shows."""
SHORT_PLAIN = Row("object", f"{PLAIN}, three quarters of the steps", share=SHORT, group="short")
"""What they are compared with; otherwise `OBJECT_PLAIN`."""

NOISE_LEVELS = {
    "sigmoid": {"content_or_style": "balanced"},
    "sigmoid, style": {"content_or_style": "style"},
    "linear": {"timestep_type": "linear", "content_or_style": "balanced"},
    "shift": {"timestep_type": "shift", "content_or_style": "balanced"},
    "beta": {"timestep_type": "beta", "content_or_style": "balanced"},
}
NOISE = tuple(
    Row("object", f"noise: {name}", _train(**settings), share=SHORT, group="noise")
    for name, settings in NOISE_LEVELS.items()
)
LINEAR = next(row for row in NOISE if row.name == "noise: linear")
"""What weightings are compared with."""
LOSSES = (
    *(
        Row(
            "object",
            f"weighting: {name}",
            _train(**NOISE_LEVELS["linear"], loss_weighting=name),
            share=SHORT,
            group="losses",
        )
        for name in ("even", "high_noise", "min_snr", "cosmap", "stepped")
    ),
    *(
        Row("object", f"distance: {name}", _train(loss_type=name), share=SHORT, group="losses")
        for name in ("mae", "huber", "pseudo_huber")
    ),
)

# With a learning rate for each kind: one that suits a LoRA is too high for a change in full.
NETWORK_KINDS: dict[str, tuple[Settings, float]] = {
    "lora, rank 4": ({"type": "lora", "linear": 4, "linear_alpha": 4}, 5e-3),
    "lora, rank 16": ({"type": "lora", "linear": 16, "linear_alpha": 16}, 5e-3),
    "lokr": ({"type": "lokr"}, 3e-2),
    "lokr, factor 4": ({"type": "lokr", "lokr_factor": 4}, 1e-2),
    "loha, rank 8": ({"type": "loha", "linear": 8}, 5e-3),
    "dora, rank 16": ({"type": "dora", "linear": 16, "linear_alpha": 16}, 5e-3),
    "oft, blocks of 32": ({"type": "oft", "linear": 32}, 2e-3),
    "fullrank": ({"type": "fullrank"}, 1e-3),
}
NETWORKS = tuple(
    Row(
        "object",
        f"network: {name}, lr {lr:g}",
        {"network": network, "train": {"lr": lr}},
        share=SHORT,
        group="networks",
    )
    for name, (network, lr) in NETWORK_KINDS.items()
)

# The learning rate that docs/optimizers.md recommends, times 50, as for AdamW; 1 for those that find their own.
OPTIMIZER_RATES = {
    "adamw8bit": 5e-3,
    "adafactor": 5e-3,
    "lion": 1e-3,
    "muon": 5e-3,
    "came": 3e-4,
    "automagic": 5e-3,
    "prodigy": 1.0,
    "schedulefree_adamw": 5e-3,
    "prodigy_schedule_free": 1.0,
    "ademamix8bit": 5e-3,
    "dadapt_adam": 1.0,
    "prodigy8bit": 1.0,
    "lion8bit": 1e-3,
    "adam8bit": 5e-3,
    "adam": 5e-3,
    "dadapt_lion": 1.0,
    "dadapt_adagrad": 1.0,
    "adagrad": 5e-1,
}
_CONSTANT = {"lr_scheduler": "constant"}
OPTIMIZER_ROWS = (
    Row(
        "object", "optimizer: adamw, constant schedule, lr 0.005", _train(**_CONSTANT), share=SHORT, group="optimizers"
    ),
    *(
        Row(
            "object",
            f"optimizer: {name}, lr {lr:g}",
            _train(optimizer=name, lr=lr, **(_CONSTANT if OPTIMIZERS[name].keeps_average else {})),
            share=SHORT,
            group="optimizers",
        )
        for name, lr in OPTIMIZER_RATES.items()
    ),
)

ROWS = (*OBJECTIVES, SHORT_PLAIN, *NETWORKS, *NOISE, *OPTIMIZER_ROWS, *LOSSES, *EDITS)
