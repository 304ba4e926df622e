"""What a run's objective needs: passes through the model, and words beside the captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.data.examples import Example
from toolkit.objectives.choices import OBJECTIVES, TERMS, TIMESTEPS, UNCONDITIONAL, Passes
from toolkit.objectives.params import SliderParams, TeacherParams
from toolkit.objectives.preserved_texts import PreservedTexts
from toolkit.plan.needs import Needs


def objective_needs(
    config: TrainingProcessConfig,
    card: ModelCard,
    examples: Sequence[Example] = (),
    folders: Mapping[str, Path | None] | None = None,
) -> Needs:
    """The needs of the objective; its words are encoded with the captions, so that the text encoder can be freed.

    Args:
        config: the run's config.
        card: the card of its model.
        examples: all examples of the run.
        folders: the cache folder of each caption; words made of a caption are kept where it is.
    """
    avoided = avoided_prompt(config, card)
    fixed = [*objective_words(config).values(), *([] if avoided is None else [avoided])]
    texts: dict[str, Path | None] = dict.fromkeys(fixed)
    preserved = PreservedTexts.of_run(config)
    for example in examples if preserved.is_any else ():
        for text in example.texts if config.uses_captions else (example.dropped_caption,):
            if (words := preserved.for_words(example, text)) is not None:
                texts[words] = texts.get(words) or (folders or {}).get(text)
    return Needs(texts=texts, captions=frozenset(texts), passes=_passes(config, card))


def avoided_prompt(config: TrainingProcessConfig, card: ModelCard) -> str | None:
    """The prompt that a teacher with true guidance avoids; None without such a teacher."""
    params = config.train.objective_params
    if not isinstance(params, TeacherParams) or not params.is_guided(has_true_cfg="true_cfg" in card.capabilities):
        return None
    return params.negative_prompt


def objective_words(config: TrainingProcessConfig) -> dict[str, str]:
    """The words that an objective predicts for in every batch, by the name that it reads them under."""
    train = config.train
    if isinstance(train.objective_params, SliderParams):
        return train.objective_params.words()
    return {UNCONDITIONAL: train.unconditional_prompt} if train.do_guidance_loss else {}


def _passes(config: TrainingProcessConfig, card: ModelCard) -> Passes:
    train = config.train
    own = OBJECTIVES[train.objective].passes_with(train.objective_params, has_true_cfg="true_cfg" in card.capabilities)
    preserving = Passes(1, 1) if PreservedTexts.of_run(config).is_any else Passes()
    reads_base = any(dataset.prior_reg for dataset in config.datasets)
    reads_base = reads_base or any(row.reads_base and row.is_on(train) for row in TERMS.values())
    if not OBJECTIVES[train.objective].has_steps:
        own += TIMESTEPS[train.timestep_type].passes
    return own + preserving + Passes(without_gradient=int(reads_base) + int(train.do_guidance_loss))
