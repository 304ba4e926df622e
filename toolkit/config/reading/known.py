"""What a job file may name: the models, kinds of process and kinds of job that are installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from toolkit.cards import ModelCard
from toolkit.config.process import ProcessConfig


@dataclass(frozen=True)
class Known:
    """The validation context of a job file. Without it, paths and names are not checked.

    Attributes:
        cards: the model cards by arch.
        processes: the settings class of each kind of process, by its `type`.
        jobs: for each kind of job, the values of `type` that its processes may have.
    """

    cards: Mapping[str, ModelCard]
    processes: Mapping[str, type[ProcessConfig]]
    jobs: Mapping[str, Collection[str]]
