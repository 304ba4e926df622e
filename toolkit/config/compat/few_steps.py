"""Whether a job that trains for few steps has all that this takes."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.params import MeanFlowParams, TeacherParams

ADAPTER = "mean_flow"


def few_steps_problems(config: TrainingProcessConfig) -> Iterator[Problem]:
    """Conflicts between objective, adapters and network."""
    train, types = config.train, [adapter.type for adapter in config.adapter]
    if train.full_finetune:
        return
    if not OBJECTIVES[train.objective].has_steps:
        if ADAPTER in types:
            what = (
                "a mean_flow adapter learns where steps end only from an objective with steps. Write "
                "`train: {objective: mean_flow}`"
            )
            yield Problem("adapter", what)
        return
    if OBJECTIVES[train.objective].has_derivative:
        yield from _without_a_derivative(config)
    params = train.objective_params
    steps = params.steps if isinstance(params, MeanFlowParams) else None
    if steps is None and ADAPTER not in types:
        what = (
            "the model must be told where a step ends: add `adapter: {type: mean_flow}`. Or train a network for one "
            "number of steps: `objective: mean_flow` with `objective_params: {steps: 4}`"
        )
        yield Problem("train.objective", what)
    if steps is not None and ADAPTER in types:
        what = (
            f"if there are always {steps} steps, the end of a step follows from its start, so the adapter would have "
            "no effect. Remove the adapter, or `steps`"
        )
        yield Problem("train.objective_params.steps", what)
    if steps is not None and config.network is None:
        what = "only a network can learn a fixed number of steps: add `network: {type: lora}`"
        yield Problem("train.objective_params.steps", what)
    others = dict.fromkeys(one for one in types if one != ADAPTER)
    if others and isinstance(params, TeacherParams) and params.has_teacher:
        what = (
            f"the target is what the base model draws, without the {' and '.join(others)} adapter, which would learn "
            "to do nothing. Train it in a job of its own, or with `objective: alpha_flow` and `objective_params: "
            "{velocity: data}`"
        )
        yield Problem("train.objective", what)


def _without_a_derivative(config: TrainingProcessConfig) -> Iterator[Problem]:
    """Settings with which the derivative of the network would be noise, or could not be taken."""
    what = f"`objective: {config.train.objective}` takes the derivative of the network with respect to time, "
    rest = "Use `objective: mean_flow`, which needs no derivative"
    if config.train.dtype != "fp32":
        yield Problem("train.dtype", f"{what}which is noise in {config.train.dtype}: write `dtype: fp32`. {rest}")
    model = config.model
    for key, is_on in (("quantize", model.quantize), ("layer_offloading", model.layer_offloading)):
        if is_on:
            yield Problem(f"model.{key}", f"{what}which is not defined with `{key}`: remove it. {rest}")
