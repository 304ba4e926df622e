"""The objectives, losses and distributions of noise levels that a job can choose: one row each, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toolkit.choice import Choice
from toolkit.objectives.params import AlphaFlowParams, MeanFlowParams, NoParams, TeacherParams, VelocityParams

UNCONDITIONAL = "unconditional"
"""Name, among a batch's words, of the prompt of a guidance-aware loss's unconditional prediction."""


@dataclass(frozen=True)
class Passes:
    """Number of forward passes through the transformer per batch.

    Attributes:
        with_gradient: passes with a backward pass; their activations are kept or recomputed.
        without_gradient: passes of a teacher, which keep no activations.
    """

    with_gradient: int = 0
    without_gradient: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.with_gradient + other.with_gradient, self.without_gradient + other.without_gradient)


@dataclass(frozen=True)
class ObjectiveChoice(Choice):
    """What a job's `objective` means, and its cost, which the check needs before the objective is created.

    Attributes:
        passes: forward passes that `loss` makes per batch.
        count: for an objective whose settings decide that, the passes given its `objective_params` and whether the
            model has true guidance.
        needs_network: whether some passes use another strength of the network than 1; a full fine-tune has no network.
        has_steps: whether the model may be told where a step ends, which takes a `mean_flow` adapter.
        has_derivative: whether the network is differentiated with respect to time, which is exact only in fp32, and
            impossible through quantized layers.
    """

    passes: Passes = Passes(with_gradient=1)
    count: Callable[[Any, bool], Passes] | None = None
    needs_network: bool = False
    has_steps: bool = False
    has_derivative: bool = False

    def passes_with(self, params: Any, *, has_true_cfg: bool) -> Passes:
        """Forward passes per batch with these `objective_params`, on a model with or without true guidance."""
        return self.passes if self.count is None else self.count(params, has_true_cfg)


def _mean_flow(params: MeanFlowParams, has_true_cfg: bool) -> Passes:
    per_step = 2 if params.is_guided(has_true_cfg=has_true_cfg) else 1
    return Passes(with_gradient=1, without_gradient=per_step * params.teacher_steps)


def _alpha_flow(params: AlphaFlowParams, has_true_cfg: bool) -> Passes:
    return Passes(with_gradient=1, without_gradient=1) + _of_teacher(params, has_true_cfg)


def _jvp(params: VelocityParams, has_true_cfg: bool) -> Passes:
    """The value and its derivative count as two passes."""
    return Passes(with_gradient=1, without_gradient=2) + _of_teacher(params, has_true_cfg)


def _of_teacher(params: TeacherParams, has_true_cfg: bool) -> Passes:
    return Passes(without_gradient=int(params.has_teacher) + int(params.is_guided(has_true_cfg=has_true_cfg)))


OBJECTIVES = {
    "velocity": ObjectiveChoice(
        "toolkit.objectives.velocity:VelocityObjective",
        summary="Flow matching: learns the velocity from image to noise.",
        params=NoParams,
    ),
    "mean_flow": ObjectiveChoice(
        "toolkit.objectives.few_steps.mean_flow:MeanFlowObjective",
        summary="Few steps: learns the mean velocity of several guided steps of the base model.",
        params=MeanFlowParams,
        count=_mean_flow,
        needs_network=True,
        has_steps=True,
    ),
    "alpha_flow": ObjectiveChoice(
        "toolkit.objectives.few_steps.alpha_flow:AlphaFlowObjective",
        summary="Few steps, with a cheaper training step than `mean_flow` and many more of them.",
        params=AlphaFlowParams,
        count=_alpha_flow,
        needs_network=True,
        has_steps=True,
    ),
    "jvp": ObjectiveChoice(
        "toolkit.objectives.few_steps.jvp:JvpObjective",
        summary="Few steps, for checking the others: mean flow with the exact derivative of the network, in fp32.",
        params=VelocityParams,
        count=_jvp,
        needs_network=True,
        has_steps=True,
        has_derivative=True,
    ),
}


@dataclass(frozen=True)
class TermChoice(Choice):
    """A part of the loss that `objective: velocity` adds to its own, and its cost.

    Attributes:
        is_on: whether a `train` section may ask for it.
        reads_base: whether it reads the base model's prediction for the batch's own words, one pass for all terms.
    """

    is_on: Callable[[Any], bool] = lambda train: True
    reads_base: bool = False


TERMS = {
    "preservation": TermChoice(
        "toolkit.objectives.preservation:Preservation",
        summary="The prediction for other words stays that of the base model; in batches that have such words.",
    ),
    "outside_prior": TermChoice(
        "toolkit.objectives.preservation:OutsidePrior",
        summary="Outside of the mask, the prediction stays that of the base model.",
        is_on=lambda train: train.inverted_mask_prior,
        reads_base=True,
    ),
    "prior_divergence": TermChoice(
        "toolkit.objectives.preservation:PriorDivergence",
        summary="The prediction moves away from that of the base model.",
        is_on=lambda train: train.do_prior_divergence,
        reads_base=True,
    ),
}

LOSSES = {
    "mse": Choice("toolkit.objectives.losses:mse", summary="Squared error.", spellings=("l2",)),
    "mae": Choice("toolkit.objectives.losses:mae", summary="Absolute error.", spellings=("l1",)),
    "pseudo_huber": Choice(
        "toolkit.objectives.losses:pseudo_huber",
        summary="Squared near 0, absolute for large errors: outliers count less.",
        elsewhere=dict.fromkeys(("huber", "smooth_l1"), "`pseudo_huber`"),
    ),
}

WEIGHTINGS = {
    "even": Choice("toolkit.objectives.weightings:even", summary="Weight 1 for every noise level."),
    "high_noise": Choice(
        "toolkit.objectives.weightings:high_noise", summary="Small weight at low noise, largest around sigma 0.87."
    ),
}


@dataclass(frozen=True)
class TimestepType(Choice):
    """What a job's `timestep_type` means: a distribution of noise levels, and how much each level counts.

    Attributes:
        weighting: how much each noise level counts in the loss, a key of `WEIGHTINGS`.
    """

    weighting: str = "even"


TIMESTEPS = {
    "sigmoid": TimestepType(
        "toolkit.objectives.timesteps:sigmoid",
        summary="Logit-normal: middle noise levels most often.",
        elsewhere=dict.fromkeys(("logit_normal", "lognorm", "logit-normal"), "`sigmoid`"),
    ),
    "linear": TimestepType(
        "toolkit.objectives.timesteps:linear",
        summary="All noise levels equally often.",
        elsewhere={"uniform": "`linear`"},
    ),
    "shift": TimestepType(
        "toolkit.objectives.timesteps:shift",
        summary="All noise levels equally often, shifted to more noise the larger the image is.",
        spellings=("flux_shift", "lumina2_shift"),
    ),
    "logit_normal_shift": TimestepType(
        "toolkit.objectives.timesteps:logit_normal_shift",
        summary="Logit-normal, shifted to more noise the larger the image is. Not in ai-toolkit.",
    ),
    "weighted": TimestepType(
        "toolkit.objectives.timesteps:linear",
        summary="All noise levels equally often; in the loss, high ones count most and low ones little.",
        weighting="high_noise",
    ),
}

BIASES = {
    "balanced": Choice("toolkit.objectives.timesteps:balanced", summary="As `timestep_type` draws them."),
    "content": Choice("toolkit.objectives.timesteps:content", summary="High noise levels more often."),
    "style": Choice("toolkit.objectives.timesteps:style", summary="Low noise levels more often."),
}
