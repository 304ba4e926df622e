"""Whether the settings of what a step minimises are compatible with each other, the network and the datasets."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem
from toolkit.objectives.choices import OBJECTIVES

VELOCITY = "velocity"
SLIDERS = ("concept_slider", "image_slider")
_BASE = (
    "compares the model with and without the network, and a full fine-tune has no network. Train a network, or remove "
    "the key"
)


def objective_problems(config: TrainingProcessConfig) -> Iterator[Problem]:
    """What contradicts something else."""
    train = config.train
    reading_base = [*_keys_reading_base(config)]
    if train.full_finetune:
        yield from (Problem(path, _BASE) for path in reading_base)
    if train.objective != VELOCITY:
        own = [f"train.{key}" for key in ("do_guidance_loss", "do_differential_guidance") if getattr(train, key)]
        what = f"is part of `objective: {VELOCITY}`, and the objective is `{train.objective}`. Remove one of the two"
        own += ["train.timestep_type"] if train.timestep_type == "next_sample" else []
        yield from (Problem(path, what) for path in [*reading_base, *own])
    yield from _validation(config)
    yield from _slider(config)
    yield from _preservation(config)
    if train.inverted_mask_prior and not any(dataset.has_masks for dataset in config.datasets):
        what = "needs masks, and no dataset has `mask_path` or `alpha_mask`. Give one of them, or remove the key"
        yield Problem("train.inverted_mask_prior", what)
    if all(dataset.prior_reg for dataset in config.datasets):
        what = (
            "every dataset is trained towards what the base model predicts anyway: nothing would be learned. Remove it"
        )
        yield Problem("datasets[0].prior_reg", what)


def _validation(config: TrainingProcessConfig) -> Iterator[Problem]:
    """Objectives that learn something that no error on images measures."""
    name = config.train.objective
    if config.validation is None or name == VELOCITY:
        return
    learned = "a mean velocity over many noise levels" if OBJECTIVES[name].has_steps else "a difference of predictions"
    what = (
        f"scores the velocity at single noise levels, but `objective: {name}` learns {learned}, so the figures would "
        "be meaningless. Judge this run by its samples, and remove the key"
    )
    yield Problem("train.validation_config", what)


def _slider(config: TrainingProcessConfig) -> Iterator[Problem]:
    name = config.train.objective
    if name not in SLIDERS:
        return
    if config.network is None and not config.train.full_finetune:
        what = f"{name} trains a network at strengths 1 and -1: add `network: {{type: lora}}`"
        yield Problem("train.objective", what)
    if not OBJECTIVES[name].reads_pairs:
        return
    for index, dataset in enumerate(config.datasets):
        if dataset.unconditional_path is None:
            what = f"missing. `{name}` needs a counterpart for each image: give the folder that contains them"
            yield Problem(f"datasets[{index}].unconditional_path", what)


def _keys_reading_base(config: TrainingProcessConfig) -> Iterator[str]:
    """The keys that ask for predictions of the base model."""
    keys = ("diff_output_preservation", "blank_prompt_preservation", "inverted_mask_prior", "do_prior_divergence")
    yield from (f"train.{key}" for key in keys if getattr(config.train, key))
    for index, dataset in enumerate(config.datasets):
        own = ("diff_output_preservation", "prior_reg")
        yield from (f"datasets[{index}].{key}" for key in own if getattr(dataset, key))


def _preservation(config: TrainingProcessConfig) -> Iterator[Problem]:
    train = config.train
    found = [(index, dataset) for index, dataset in enumerate(config.datasets) if config.preserves_class(dataset)]
    if found and train.blank_prompt_preservation:
        what = "`train.blank_prompt_preservation` preserves the predictions for other words: keep one of them"
        yield Problem(f"datasets[{found[0][0]}].diff_output_preservation", what)
    if train.diff_output_preservation and not found:
        yield Problem("train.diff_output_preservation", "every dataset turns it off. Remove the key")
    triggers = [dataset.trigger_word or config.trigger_word for _, dataset in found if not dataset.is_reg]
    if found and not any(triggers):
        own = "train" if train.diff_output_preservation else f"datasets[{found[0][0]}]"
        what = "needs the word for what is learned: set `trigger_word`, and use it in the captions"
        yield Problem(f"{own}.diff_output_preservation", what)
    for index, dataset in found:
        own_class = dataset.diff_output_preservation_class
        name = train.diff_output_preservation_class if own_class is None else own_class
        trigger = dataset.trigger_word or config.trigger_word
        if trigger and trigger in name:
            path = "train" if own_class is None else f"datasets[{index}]"
            what = f'"{name}" contains the trigger word, so it would not be learned: give its class'
            yield Problem(f"{path}.diff_output_preservation_class", what)
