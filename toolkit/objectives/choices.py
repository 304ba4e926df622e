"""The losses and distributions of noise levels that a job may name: a row each, readable without torch."""

from __future__ import annotations

from toolkit.choice import Choice

LOSSES = {
    "mse": Choice("toolkit.objectives.losses:mse", says="Squared error.", spellings=("l2",)),
    "mae": Choice("toolkit.objectives.losses:mae", says="Absolute error.", spellings=("l1",)),
    "pseudo_huber": Choice(
        "toolkit.objectives.losses:pseudo_huber", says="Squared near 0, absolute far away: outliers weigh less."
    ),
}

TIMESTEPS = {
    "sigmoid": Choice("toolkit.objectives.timesteps:sigmoid", says="Logit-normal: middle noise levels most often."),
    "linear": Choice("toolkit.objectives.timesteps:linear", says="All noise levels alike."),
    "shift": Choice(
        "toolkit.objectives.timesteps:shift",
        says="Logit-normal, moved to more noise the larger the picture is.",
        spellings=("flux_shift", "lumina2_shift"),
    ),
    "weighted": Choice(
        "toolkit.objectives.timesteps:linear",
        says="All noise levels alike; the loss weighs the high ones most and the low ones little.",
    ),
}

BIASES = {
    "balanced": Choice("toolkit.objectives.timesteps:balanced", says="As `timestep_type` draws them."),
    "content": Choice("toolkit.objectives.timesteps:content", says="High noise levels more often."),
    "style": Choice("toolkit.objectives.timesteps:style", says="Low noise levels more often."),
}
