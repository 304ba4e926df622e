"""The objectives, losses and distributions of noise levels that a job can choose: one row each, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toolkit.choice import Choice
from toolkit.objectives.params import (
    AlphaFlowParams,
    BetaParams,
    HuberParams,
    LogitNormalParams,
    LogitNormalShiftParams,
    MeanFlowParams,
    PseudoHuberParams,
    ShiftParams,
    SliderParams,
    TeacherParams,
    VelocityParams,
)

UNCONDITIONAL = "unconditional"
"""Name, among a batch's words, of the prompt of a guidance-aware loss's unconditional prediction."""


@dataclass(frozen=True)
class Passes:
    """Number of forward passes through the transformer per batch.

    Attributes:
        with_gradient: passes with a backward pass, each made before the next pass; their activations are kept until
            then, or recomputed.
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
        passes: forward passes that `losses` makes per batch.
        count: for an objective whose settings decide that, the passes given its `objective_params` and whether the
            model has true guidance.
        needs_network: whether some passes use another strength of the network than 1; a full fine-tune has no network.
        has_steps: whether the model may be told where a step ends, which takes a `mean_flow` adapter.
        reads_captions: whether images are trained with their captions.
        reads_pairs: whether each image has a counterpart.
        has_derivative: whether the network is differentiated with respect to time, which is exact only in fp32, and
            impossible through quantized layers.
    """

    passes: Passes = Passes(with_gradient=1)
    count: Callable[[Any, bool], Passes] | None = None
    needs_network: bool = False
    has_steps: bool = False
    reads_captions: bool = True
    reads_pairs: bool = False
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


def _concept_slider(params: SliderParams, has_true_cfg: bool) -> Passes:
    """Both strengths for the class and the anchor, and the base model's predictions for all prompts."""
    has_anchor = int(params.anchor_class is not None)
    return Passes(with_gradient=2 + 2 * has_anchor, without_gradient=3 + has_anchor)


def _of_teacher(params: TeacherParams, has_true_cfg: bool) -> Passes:
    return Passes(without_gradient=int(params.has_teacher) + int(params.is_guided(has_true_cfg=has_true_cfg)))


OBJECTIVES = {
    "velocity": ObjectiveChoice(
        "toolkit.objectives.velocity:VelocityObjective",
        summary="Flow matching: learns the velocity from image to noise.",
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
    "concept_slider": ObjectiveChoice(
        "toolkit.objectives.sliders.concept_slider:ConceptSliderObjective",
        summary="A network whose strength moves a class of things between two prompts.",
        params=SliderParams,
        count=_concept_slider,
        needs_network=True,
        reads_captions=False,
    ),
    "image_slider": ObjectiveChoice(
        "toolkit.objectives.sliders.image_slider:ImageSliderObjective",
        summary="A network whose strength moves between the two images of each pair.",
        passes=Passes(with_gradient=2),
        needs_network=True,
        reads_pairs=True,
    ),
}


@dataclass(frozen=True)
class TermChoice(Choice):
    """A term that `objective: velocity` adds to its own, of the same prediction, and its cost.

    Attributes:
        is_on: whether a `train` section asks for it.
        reads_base: whether it reads the base model's prediction for the batch's own words, one pass for all terms.
    """

    is_on: Callable[[Any], bool] = lambda train: True
    reads_base: bool = False


TERMS = {
    "outside_prior": TermChoice(
        "toolkit.objectives.preservation:OutsidePrior",
        summary="Outside the mask, the prediction stays as in the base model.",
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
    "huber": Choice(
        "toolkit.objectives.losses:huber",
        summary="Half the squared error up to `delta`, linear beyond.",
        params=HuberParams,
    ),
    "smooth_l1": Choice(
        "toolkit.objectives.losses:smooth_l1",
        summary="`huber` divided by `delta`, so that large errors count as with `mae`.",
        params=HuberParams,
    ),
    "pseudo_huber": Choice(
        "toolkit.objectives.losses:pseudo_huber",
        summary="Squared near 0, absolute for large errors: outliers count less.",
        params=PseudoHuberParams,
    ),
}

WEIGHTINGS = {
    "even": Choice(
        "toolkit.objectives.noise.weightings:even", summary="Weight 1 for every noise level.", spellings=("none",)
    ),
    "high_noise": Choice(
        "toolkit.objectives.noise.weightings:high_noise",
        summary="Small weight at low noise, largest around sigma 0.87.",
    ),
    "min_snr": Choice(
        "toolkit.objectives.noise.weightings:min_snr",
        summary="The error of the image, up to a signal-to-noise ratio of 5 (Min-SNR).",
    ),
    "cosmap": Choice(
        "toolkit.objectives.noise.weightings:cosmap", summary="Largest at sigma 0.5, half of that at both ends (SD3)."
    ),
    "stepped": Choice(
        "toolkit.objectives.noise.weightings:stepped",
        summary="Error of the image after a small step, large at high noise: ai-toolkit's `loss_type: stepped`.",
    ),
}


@dataclass(frozen=True)
class TimestepType(Choice):
    """What a job's `timestep_type` means: a distribution of noise levels, and how much each level counts.

    Attributes:
        weighting: how much each noise level counts in the loss, a key of `WEIGHTINGS`.
        is_discrete: whether only a few levels are drawn, so that neither bias nor range apply.
        passes: passes that are made before the one that is trained.
    """

    weighting: str = "even"
    is_discrete: bool = False
    passes: Passes = Passes()


def _few(name: str, summary: str, **more: Any) -> TimestepType:
    return TimestepType(f"toolkit.objectives.noise.timesteps:{name}", summary=summary, is_discrete=True, **more)


TIMESTEPS = {
    "sigmoid": TimestepType(
        "toolkit.objectives.noise.timesteps:sigmoid",
        summary="Logit-normal: middle noise levels most often.",
        params=LogitNormalParams,
        spellings=("logit_normal",),
        elsewhere=dict.fromkeys(("lognorm", "logit-normal"), "`sigmoid`"),
    ),
    "linear": TimestepType(
        "toolkit.objectives.noise.timesteps:linear",
        summary="All noise levels equally often.",
        spellings=("even",),
        elsewhere={"uniform": "`linear`"},
    ),
    "shift": TimestepType(
        "toolkit.objectives.noise.timesteps:shift",
        summary="All noise levels equally often, shifted to more noise the larger the image is, or as `shift` says.",
        params=ShiftParams,
        spellings=("flux_shift", "lumina2_shift"),
    ),
    "logit_normal_shift": TimestepType(
        "toolkit.objectives.noise.timesteps:logit_normal_shift",
        summary="Logit-normal, shifted like `shift`. Not in ai-toolkit.",
        params=LogitNormalShiftParams,
    ),
    "weighted": TimestepType(
        "toolkit.objectives.noise.timesteps:linear",
        summary="All noise levels equally often; in the loss, high ones have the largest weight and low ones little.",
        weighting="high_noise",
    ),
    "beta": TimestepType(
        "toolkit.objectives.noise.timesteps:beta",
        summary="The beta distribution. Not in ai-toolkit.",
        params=BetaParams,
    ),
    "lognorm_blend": TimestepType(
        "toolkit.objectives.noise.timesteps:lognorm_blend",
        summary="Three quarters around sigma 0.65, one quarter uniform.",
    ),
    "one_step": _few("one_step", "Pure noise only, for a model that draws in one step."),
    "two_step": _few("two_step", "The two levels at which a model that draws in two steps predicts."),
    "four_step": _few("four_step", "The four levels at which a model that draws in four steps predicts."),
    "eight_step": _few("eight_step", "The eight levels at which a model that draws in eight steps predicts."),
    "next_sample": _few(
        "next_sample",
        "Levels of a sampler with `next_sample_timesteps`; the noisy image is what the model's own step leads to.",
        passes=Passes(without_gradient=1),
    ),
}

BIASES = {
    "balanced": Choice("toolkit.objectives.noise.timesteps:balanced", summary="As `timestep_type` draws them."),
    "content": Choice("toolkit.objectives.noise.timesteps:content", summary="High noise levels more often."),
    "style": Choice("toolkit.objectives.noise.timesteps:style", summary="Low noise levels more often."),
}
