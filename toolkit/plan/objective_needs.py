"""What a run's objective needs: passes through the model, and the prompt that its teacher avoids."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.params import TeacherParams
from toolkit.plan.needs import Needs


def objective_needs(config: TrainingProcessConfig, card: ModelCard) -> Needs:
    """The needs of the objective; its prompt is encoded with the captions, so that the text encoder can be freed."""
    train, avoided = config.train, avoided_prompt(config, card)
    has_true_cfg = "true_cfg" in card.capabilities
    return Needs(
        texts={} if avoided is None else {avoided: None},
        captions=frozenset() if avoided is None else frozenset({avoided}),
        passes=OBJECTIVES[train.objective].passes_with(train.objective_params, has_true_cfg=has_true_cfg),
    )


def avoided_prompt(config: TrainingProcessConfig, card: ModelCard) -> str | None:
    """The prompt that a teacher with true guidance avoids; None without such a teacher."""
    params = config.train.objective_params
    if not isinstance(params, TeacherParams) or not params.is_guided(has_true_cfg="true_cfg" in card.capabilities):
        return None
    return params.negative_prompt
