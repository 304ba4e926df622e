"""Validation as one run's settings ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.config import TrainingProcessConfig
from toolkit.data.examples import Example
from toolkit.output.bundles import Bundle
from toolkit.train.feeder import Feeder
from toolkit.train.recorder import Recorder
from toolkit.train.scores.of_run import score_of
from toolkit.train.stages import Stages
from toolkit.train.tasks.sampling import Sampler
from toolkit.train.tasks.saver import Saver
from toolkit.train.tasks.task import Score
from toolkit.train.validation.grid import Grid
from toolkit.train.validation.history import VALIDATION, History
from toolkit.train.validation.judge import rounds_without_gain
from toolkit.train.validation.scorer import Scorer
from toolkit.train.validation.task import ValidateTask

STORE = Path("validation", "base.safetensors")  # below the output folder


class Validation:
    """The validation rounds of a run and their results.

    Args:
        config: the run's settings.
        grid: the subjects and noise levels that are scored; None without validation.
        bundle: what the run resumes from; None if it starts from scratch.
    """

    def __init__(self, config: TrainingProcessConfig, grid: Grid | None, bundle: Bundle | None) -> None:
        self.config = config
        self.history = None if grid is None else History.resumed(grid, bundle)

    def documents(self) -> Mapping[str, Any]:
        """What bundles keep of the validation, by name."""
        return {} if self.history is None else {VALIDATION: self.history.as_json()}

    def is_enough(self) -> bool:
        """Whether the training should end, because there was no better round for as many rounds as the job allows."""
        settings = self.config.validation
        patience = 0 if settings is None else settings.early_stop_patience
        return self.history is not None and 0 < patience <= rounds_without_gain(self.history)

    def task(
        self, feeder: Feeder, saver: Saver, stages: Stages, recorder: Recorder, *, in_place: Callable[[], None]
    ) -> ValidateTask | None:
        """The task that makes the rounds; None without validation.

        Args:
            feeder: makes the inputs of the model.
            saver: writes the best weights.
            stages: reports to the user.
            recorder: takes the figures for TensorBoard.
            in_place: called before anything is written; raises FolderLost if the output folder is no longer the run's.
        """
        if self.history is None:
            return None
        has_base, store = not self.config.train.full_finetune, saver.folder / STORE
        scorer = Scorer(self.history.grid, feeder, saver.learner, has_base=has_base, store=store)

        def save_best(step: int, figure: Mapping[str, Any]) -> Path:
            in_place()
            return saver.save_best(step, figure)

        return ValidateTask(
            scorer, self.history, stages, recorder, save_best if self.config.save.save_best else None, self.is_enough
        )

    def score(self, sampler: Sampler, examples: Sequence[Example], stages: Stages, recorder: Recorder) -> Score | None:
        """The scorer of the samples; None if the job names no image encoder.

        Args:
            sampler: draws them.
            examples: the images that the run trains on.
            stages: reports to the user.
            recorder: takes the figures for TensorBoard.
        """
        device = sampler.learner.model.device
        return score_of(self.config, examples, folder=sampler.folder, device=device, stages=stages, recorder=recorder)
