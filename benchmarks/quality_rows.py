"""The settings that `benchmarks.quality` compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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


CLASS_PRESERVED = _train(diff_output_preservation=True, diff_output_preservation_class="medium red circle")
OBJECTIVES = (
    Row("object", PLAIN),
    Row("object", "regularisation set", regularization={}),
    Row("object", "regularisation set as the base predicts", regularization={"prior_reg": True}),
    Row("object", "class preserved", CLASS_PRESERVED),
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

NOISE_LEVELS = {
    "sigmoid": {"timestep_type": "sigmoid", "content_or_style": "balanced"},
    "sigmoid, content": {"timestep_type": "sigmoid", "content_or_style": "content"},
    "sigmoid, style": {"timestep_type": "sigmoid", "content_or_style": "style"},
    "linear": {"timestep_type": "linear", "content_or_style": "balanced"},
    "shift": {"timestep_type": "shift", "content_or_style": "balanced"},
    "beta": {"timestep_type": "beta", "content_or_style": "balanced"},
    "linear, stratified": {"timestep_type": "linear", "content_or_style": "balanced", "stratified_timesteps": True},
}
SHARES = (0.5, 1.0)
NOISE = tuple(
    Row("object", f"noise: {name}, {share:g} of the steps", _train(**settings), share=share, group="noise")
    for share in SHARES
    for name, settings in NOISE_LEVELS.items()
)

_BALANCED = {"timestep_type": "linear", "content_or_style": "balanced"}
LOSSES = (
    *(
        Row("object", f"weighting: {name}", _train(**_BALANCED, loss_weighting=name), group="losses")
        for name in ("even", "high_noise", "min_snr", "cosmap", "stepped")
    ),
    *(
        Row("object", f"distance: {name}", _train(loss_type=name), group="losses")
        for name in ("mae", "huber", "pseudo_huber")
    ),
)

# A learning rate for each kind: one that suits a LoRA is too high for a change in full.
NETWORK_KINDS: dict[str, tuple[Settings, float]] = {
    "lora, rank 4": ({"type": "lora", "linear": 4, "linear_alpha": 4}, 5e-3),
    "lora, rank 16": ({"type": "lora", "linear": 16, "linear_alpha": 16}, 5e-3),
    "lora, rank 32": ({"type": "lora", "linear": 32, "linear_alpha": 32}, 5e-3),
    "lokr": ({"type": "lokr"}, 5e-3),
    "loha, rank 8": ({"type": "loha", "linear": 8}, 5e-3),
    "dora, rank 16": ({"type": "dora", "linear": 16, "linear_alpha": 16}, 5e-3),
    "oft, blocks of 32": ({"type": "oft", "linear": 32}, 5e-3),
    "fullrank": ({"type": "fullrank"}, 5e-4),
}
NETWORKS = tuple(
    Row("object", f"network: {name}", {"network": network, "train": {"lr": lr}}, group="networks")
    for name, (network, lr) in NETWORK_KINDS.items()
)

OPTIMIZER_KINDS: dict[str, Settings] = {
    "adamw": {},
    "adamw8bit": {},
    "adam": {},
}
OPTIMIZERS = tuple(
    Row("object", f"optimizer: {name}", _train(optimizer=name, **settings), group="optimizers")
    for name, settings in OPTIMIZER_KINDS.items()
)

ROWS = (*OBJECTIVES, *NOISE, *NETWORKS, *LOSSES, *OPTIMIZERS, *EDITS)
