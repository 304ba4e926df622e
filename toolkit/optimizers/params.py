"""The settings of each kind of optimizer, `train.optimizer_params`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from toolkit.section import NameParts, Section, Shown

Share = Annotated[float, Field(ge=0, lt=1)]
_Eps = Annotated[float, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]

_EPS = "Epsilon: added to the square root of the second moment."


class DecayParams(Section):
    """`train.optimizer_params` of every kind with weight decay."""

    weight_decay: float = Field(0.0, ge=0, description="Weight decay.")
    no_decay_if_contains: Annotated[NameParts, Shown(label="No weight decay on", level="expert")] = Field(
        (), description="No weight decay for weights whose name contains one of these strings."
    )


class AdamParams(DecayParams):
    """`train.optimizer_params`."""

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description=_EPS)
    weight_decay: float | None = Field(  # type: ignore[assignment]
        None, ge=0, description="Weight decay. Unset: 0.01 for adamw and adamw8bit, 0 for adam and adam8bit."
    )


class AdagradParams(DecayParams):
    """`train.optimizer_params` of adagrad."""

    eps: float = Field(1e-10, gt=0, description=_EPS)


class LionParams(DecayParams):
    """`train.optimizer_params` of lion and lion8bit."""

    betas: tuple[Share, Share] = Field((0.9, 0.99), description="Decay rates: for the direction, and of the moment.")


class AdemamixParams(DecayParams):
    """`train.optimizer_params` of ademamix8bit."""

    betas: tuple[Share, Share, Share] = Field(
        (0.9, 0.999, 0.9999), description="Decay rates of the fast, the second and the slow moment."
    )
    alpha: float = Field(5.0, ge=0, description="Weight of the slow moment.")
    eps: float = Field(1e-8, gt=0, description=_EPS)
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    warmup_steps: Annotated[int, Shown(unit="steps")] = Field(
        0, ge=0, description="Steps over which `alpha` and the decay rate of the slow moment grow."
    )


class MuonParams(DecayParams):
    """`train.optimizer_params` of muon."""

    momentum: Share = Field(0.95, description="Decay rate of the momentum, for matrices.")
    nesterov: bool = Field(True, description="Nesterov momentum.")
    ns_steps: int = Field(5, ge=1, le=20, description="Number of iterations that orthogonalise a matrix.")
    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="Decay rates of AdamW, for weights that are not matrices."
    )
    eps: float = Field(1e-8, gt=0, description="Epsilon of AdamW: added to the square root of its second moment.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")


class AdafactorParams(DecayParams):
    """`train.optimizer_params` of adafactor."""

    eps: tuple[_Eps, _Eps] = Field(
        (1e-30, 1e-3), description="Added to squared gradients, and the smallest scale of a weight."
    )
    clip_threshold: float = Field(1.0, gt=0, description="Maximum root mean square of an update.")
    decay_rate: float = Field(-0.8, lt=0, description="Exponent with which the decay rate of the second moment grows.")
    scale_parameter: bool = Field(
        False,
        description="Multiply the learning rate by the root mean square of each weight. Unsuitable for a LoRA, "
        "whose B starts at 0.",
    )


class CameParams(DecayParams):
    """`train.optimizer_params` of came."""

    betas: tuple[Share, Share, Share] = Field(
        (0.9, 0.999, 0.9999), description="Decay rates of the update, of the squared gradients, and of the instability."
    )
    eps1: float = Field(1e-30, gt=0, description="Added to squared gradients.")
    eps2: float = Field(1e-16, gt=0, description="Added to squared differences of updates.")
    clip_threshold: float = Field(1.0, gt=0, description="Maximum root mean square of an update.")


class AutomagicParams(DecayParams):
    """`train.optimizer_params` of automagic."""

    beta2: Share = Field(0.999, description="Decay rate of the second moment.")
    eps: float = Field(1e-30, gt=0, description="Added to squared gradients.")
    clip_threshold: float = Field(1.0, gt=0, description="Maximum root mean square of an update.")
    lr_bump: Share = Field(0.1, description="Maximum relative change of a tensor's learning rate in one step.")
    min_lr: float = Field(1e-7, gt=0, description="Lowest learning rate of a tensor.")
    max_lr: float = Field(1e-3, gt=0, description="Highest learning rate of a tensor.")


class ScheduleFreeParams(DecayParams):
    """`train.optimizer_params` of schedulefree_adamw."""

    betas: tuple[Positive, Share] = Field(
        (0.9, 0.999),
        description="How close to the average gradients are evaluated, and decay rate of the second moment.",
    )
    eps: float = Field(1e-8, gt=0, description=_EPS)
    r: float = Field(
        0.0,
        ge=0,
        description="Weight of a step in the average: its number to this power, so that later steps count more.",
    )
    weight_lr_power: float = Field(
        2.0, ge=0, description="Weight of a step in the average: its learning rate to this power."
    )


class ProdigyParams(DecayParams):
    """`train.optimizer_params` of prodigy and prodigy8bit."""

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates of the first and second moment.")
    beta3: Share | None = Field(
        None, description="Decay rate of the estimate. Unset: the square root of the second of `betas`."
    )
    eps: float = Field(1e-8, gt=0, description=_EPS)
    d0: float = Field(1e-6, gt=0, description="Initial step size. It should be below the right one.")
    d_coef: float = Field(
        1.0, gt=0, description="Factor of the estimated step size: try 0.5 or 2 if the estimate is wrong."
    )
    growth_rate: float | None = Field(
        None, gt=1, description="Maximum growth factor of the step size in one step. Unset: no limit."
    )
    decouple: bool = Field(
        True, description="Decouple `weight_decay` from the gradient, as in AdamW; false: add it to the gradient."
    )
    use_bias_correction: bool = Field(False, description="Adam's bias correction; acts as a warm-up.")
    safeguard_warmup: bool = Field(False, description="Exclude the schedule from the estimate: for long warm-ups.")


class ProdigyFreeParams(DecayParams):
    """`train.optimizer_params` of prodigy_schedule_free."""

    betas: tuple[Positive, Share] = Field(
        (0.9, 0.99),
        description="How close to the average gradients are evaluated, and decay rate of the second moment.",
    )
    eps: float = Field(1e-8, gt=0, description=_EPS)
    d0: float = Field(1e-6, gt=0, description="Initial step size. It should be below the right one.")
    d_coef: float = Field(
        1.0, gt=0, description="Factor of the estimated step size: try 0.5 or 2 if the estimate is wrong."
    )
    d_limiter: bool = Field(True, description="Limit the growth of the step size to 19 % per step.")
    prodigy_steps: Annotated[int, Shown(unit="steps")] = Field(
        0, ge=0, description="Number of steps after which the step size is frozen. 0: never."
    )
    schedulefree_c: float = Field(0.0, ge=0, description="How fast the average forgets old steps; 0: as published.")
    use_stableadamw: bool = Field(True, description="Limit the root mean square of an update.")


class DadaptParams(DecayParams):
    """`train.optimizer_params` of the D-Adaptation kinds."""

    d0: float = Field(1e-6, gt=0, description="Initial step size. It should be below the right one.")


class DadaptAdamParams(DadaptParams):
    """`train.optimizer_params` of dadapt_adam."""

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description=_EPS)


class DadaptLionParams(DadaptParams):
    """`train.optimizer_params` of dadapt_lion."""

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates: for the direction, and of the moment.")


class DadaptAdagradParams(DadaptParams):
    """`train.optimizer_params` of dadapt_adagrad."""

    momentum: Share = Field(0.0, description="Share of the last weights that is kept.")


class AnyParams(Section):
    """`train.optimizer_params` of a class of your own: what its constructor takes beside the weights and `lr`."""

    model_config = ConfigDict(extra="allow")
