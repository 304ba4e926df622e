"""What a job file may name: the models, kinds of process and kinds of job that are installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from toolkit.cards import ModelCard
from toolkit.config.process import ProcessConfig


@dataclass(frozen=True)
class Known:
    """Validation context of a job file: with it paths and names are checked too.

    Attributes:
        cards: the models by arch.
        processes: the settings of each kind of process, by the value of `type`.
        jobs: for each kind of job, the values of `type` that its processes may have.
    """

    cards: Mapping[str, ModelCard]
    processes: Mapping[str, type[ProcessConfig]]
    jobs: Mapping[str, Collection[str]]
