"""Whether a job that splits its model over cards has several, and what else is in the way."""

from __future__ import annotations

from toolkit.config import TrainingProcessConfig
from toolkit.errors import Problem, UserError
from toolkit.runtime.device_probe import count_cards, find_device

_WHERE = "model.split_model_over_gpus"
_PLANNED_CARDS = 2  # for a plan on other cards than those of this machine


def cards_of_split(config: TrainingProcessConfig, *, is_here: bool) -> int:
    """The number of cards that a job's model is split over, as far as is known; 0 if it is not split.

    Args:
        config: the job's training process.
        is_here: whether the job is meant for this machine.
    """
    if not config.model.split_model_over_gpus:
        return 0
    return count_cards() if is_here and _has_device(config) else _PLANNED_CARDS


def split_problems(config: TrainingProcessConfig, *, world: int, is_here: bool) -> list[Problem]:
    """What keeps a model from being split.

    Args:
        config: the job's training process; one that names a device may be meant for another machine.
        world: number of processes of the run.
        is_here: whether the job is meant for this machine.
    """
    if not config.model.split_model_over_gpus:
        return []
    problems = []
    if world > 1:
        what = (
            f"one process uses all GPUs, and this run has {world} processes, each with a GPU of its own. Start it with "
            "`python run.py`, or remove the key"
        )
        problems.append(Problem(_WHERE, what))
    if not (is_here and _has_device(config)):
        return problems
    elsewhere = "To plan for two GPUs that are elsewhere, use --check --vram 24"
    if find_device(config.device) == "cpu":
        what = f"this machine has no GPU that torch can use. Remove the key to train on its CPU. {elsewhere}"
        problems.append(Problem(_WHERE, what))
    elif count_cards() < 2:
        what = (
            "the job sees one GPU only, so there is nothing to split over. Remove the key; if the model does not fit, "
            "set `model.memory: auto`. If the machine has more GPUs, show them to the job: the environment variable "
            f"CUDA_VISIBLE_DEVICES lists those that it sees. {elsewhere}"
        )
        problems.append(Problem(_WHERE, what))
    return problems


def _has_device(config: TrainingProcessConfig) -> bool:
    try:
        find_device(config.device)
    except UserError:
        return False
    return True
