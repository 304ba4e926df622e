"""What of a training run can be judged apart: its images, samples, model files and network."""

from __future__ import annotations

from dataclasses import replace

from jobs.process.model_files import check_model_files
from jobs.process.training_checked import TrainingChecked
from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.data.references import measure_references
from toolkit.data.scan import scan_datasets
from toolkit.errors import JobError, Mistakes, Problem
from toolkit.objectives.choices import OBJECTIVES
from toolkit.train.tasks.sample_needs import all_items, reference_rules


def check_parts(checked: TrainingChecked) -> TrainingChecked:
    """Look at each part; the user hears of all mistakes at once."""
    config, card, source = checked.config, checked.card, str(checked.start.job.path)
    mistakes, scan, model = Mistakes(), checked.scan, checked.model
    with mistakes.gathered():
        scan = scan_datasets(
            config.datasets,
            divisor_px=card.divisor_px,
            trigger_word=config.trigger_word,
            reg_weight=config.train.reg_weight,
            rules=reference_rules(config, card),
            uses_captions=config.uses_captions,
        )
    samples = [*_sample_problems(config, card), *_strength_problems(config)]
    if problems := [*beyond_the_model(config, card), *scan.problems, *samples]:
        mistakes.errors.append(JobError(source, problems))
    with mistakes.gathered():
        model = check_model_files(config, card, source=source)
    checked = replace(checked, scan=scan, model=model)
    return checked.refused(mistakes.error(source, scan.notices)) if mistakes else checked


def _sample_problems(config: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    paths = dict.fromkeys(path for item in all_items(config) for path in item.references)
    return measure_references(tuple(paths), card.reference_limits)[1]


def _strength_problems(config: TrainingProcessConfig) -> list[Problem]:
    """Settings that change the strength of a network, in a job that has none."""
    found = []
    if config.network is None and any(item.network_multiplier != 1 for item in all_items(config)):
        found.append(
            Problem("sample.network_multiplier", "a full fine-tune has no network to multiply. Remove the key")
        )
    if config.network is None and OBJECTIVES[config.train.objective].needs_network:
        what = (
            f"{config.train.objective} compares the model with itself without the network that is trained, and a full "
            "fine-tune has none. Train a network, or choose another objective"
        )
        found.append(Problem("train.objective", what))
    return found
