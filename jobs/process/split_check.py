"""Checks whether a job that splits its model over cards has several, and what else stands in the way."""

from __future__ import annotations

from jobs.process.start import Start
from toolkit.errors import Problem, UserError
from toolkit.runtime.device_probe import count_cards, find_device

_WHERE = "model.split_model_over_gpus"
_PLANNED_CARDS = 2  # for a plan on other cards than those of this machine


def cards_of_split(start: Start) -> int:
    """The number of cards that the job's model is split over, as far as is known; 0 if it is not split."""
    if not start.training.model.split_model_over_gpus:
        return 0
    if start.vram_gb is not None or not _has_device(start):
        return _PLANNED_CARDS
    return count_cards()


def split_problems(start: Start) -> list[Problem]:
    """What keeps a model from being split. The job may be meant for another machine, if it names a device."""
    if not start.training.model.split_model_over_gpus:
        return []
    problems, world = [], start.ranks.world
    if world > 1:
        what = (
            f"one process uses all GPUs, and this run has {world} processes, each with a GPU of its own. Start it with "
            "`python run.py`, or remove the key"
        )
        problems.append(Problem(_WHERE, what))
    if start.vram_gb is not None or not _has_device(start):
        return problems
    elsewhere = "To plan for two GPUs that are elsewhere, use --check --vram 24"
    if find_device(start.training.device) == "cpu":
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


def _has_device(start: Start) -> bool:
    try:
        find_device(start.training.device)
    except UserError:
        return False
    return True
