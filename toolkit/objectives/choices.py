"""Objectives, losses and distributions of noise levels: a row for each name, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice


@dataclass(frozen=True)
class Passes:
    """Forward passes through the transformer for each batch.

    Attributes:
        with_gradient: passes that backward goes through; their activations are kept or recomputed.
        without_gradient: passes of a teacher; they keep nothing.
    """

    with_gradient: int = 0
    without_gradient: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.with_gradient + other.with_gradient, self.without_gradient + other.without_gradient)


@dataclass(frozen=True)
class ObjectiveChoice(Choice):
    """What a job's `objective` stands for, and what it costs: the check knows it before the objective is made.

    Attributes:
        passes: what `loss` makes for a batch.
        needs_network: some of them are at another strength of the network than 1. A full fine-tune has no network.
    """

    passes: Passes = Passes(with_gradient=1)
    needs_network: bool = False


OBJECTIVES = {
    "velocity": ObjectiveChoice(
        "toolkit.objectives.velocity:VelocityObjective", says="Flow matching: the velocity from picture to noise."
    ),
}

LOSSES = {
    "mse": Choice("toolkit.objectives.losses:mse", says="Squared error.", spellings=("l2",)),
    "mae": Choice("toolkit.objectives.losses:mae", says="Absolute error.", spellings=("l1",)),
    "pseudo_huber": Choice(
        "toolkit.objectives.losses:pseudo_huber",
        says="Squared near 0, absolute far away: outliers weigh less.",
        elsewhere=dict.fromkeys(("huber", "smooth_l1"), "`pseudo_huber`"),
    ),
}

WEIGHTINGS = {
    "even": Choice("toolkit.objectives.weightings:even", says="1 for every noise level."),
    "high_noise": Choice(
        "toolkit.objectives.weightings:high_noise", says="Little at low noise, most around sigma 0.87."
    ),
}


@dataclass(frozen=True)
class TimestepType(Choice):
    """What a job's `timestep_type` stands for: the distribution of noise levels, and how much each counts.

    Attributes:
        weighting: a key of `WEIGHTINGS`.
    """

    weighting: str = "even"


TIMESTEPS = {
    "sigmoid": TimestepType(
        "toolkit.objectives.timesteps:sigmoid",
        says="Logit-normal: middle noise levels most often.",
        elsewhere=dict.fromkeys(("logit_normal", "lognorm", "logit-normal"), "`sigmoid`"),
    ),
    "linear": TimestepType(
        "toolkit.objectives.timesteps:linear", says="All noise levels alike.", elsewhere={"uniform": "`linear`"}
    ),
    "shift": TimestepType(
        "toolkit.objectives.timesteps:shift",
        says="All noise levels alike, moved to more noise the larger the picture is.",
        spellings=("flux_shift", "lumina2_shift"),
    ),
    "logit_normal_shift": TimestepType(
        "toolkit.objectives.timesteps:logit_normal_shift",
        says="Logit-normal, moved to more noise the larger the picture is. Not in ai-toolkit.",
    ),
    "weighted": TimestepType(
        "toolkit.objectives.timesteps:linear",
        says="All noise levels alike; the loss weighs the high ones most and the low ones little.",
        weighting="high_noise",
    ),
}

BIASES = {
    "balanced": Choice("toolkit.objectives.timesteps:balanced", says="As `timestep_type` draws them."),
    "content": Choice("toolkit.objectives.timesteps:content", says="High noise levels more often."),
    "style": Choice("toolkit.objectives.timesteps:style", says="Low noise levels more often."),
}
