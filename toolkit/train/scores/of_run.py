"""Scores of samples as one run's settings ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from toolkit.config import TrainingProcessConfig
from toolkit.data.examples import Example
from toolkit.encode.vision import scoring_encoder
from toolkit.errors import UserError
from toolkit.runtime.stop import StopRequest
from toolkit.train.recorder import Recorder
from toolkit.train.scores.scorer import Scorer, images_to_compare
from toolkit.train.stages import Stages
from toolkit.train.tasks.sampling import Sample
from toolkit.train.tasks.task import Score

_LABELS = {"similarity": "similarity to the training images", "prompt_match": "prompt match", "drift": "drift"}


def score_of(
    config: TrainingProcessConfig,
    examples: Sequence[Example],
    *,
    folder: Path,
    device: torch.device,
    stages: Stages,
    recorder: Recorder,
) -> Score | None:
    """What scores the samples of a run; None if its settings do not ask for it.

    Args:
        config: the run's settings.
        examples: the images that the run trains on.
        folder: folder of the samples.
        device: where the encoder runs.
        stages: reports to the user.
        recorder: takes the figures for TensorBoard.
    """
    encoder = scoring_encoder(config)
    if encoder is None:
        return None
    images = images_to_compare(examples, [dataset.background_color for dataset in config.datasets])
    trigger, redact = config.trigger_word, stages.redact
    scorer = Scorer(encoder, images, folder=folder, trigger_word=trigger, device=device, redact=redact)
    return Scoring(scorer, stages, recorder)


class Scoring:
    """Scores rounds and reports them. Errors are warnings: a failed score does not end the training.

    Args:
        scorer: scores the samples.
        stages: reports to the user.
        recorder: takes the figures for TensorBoard.
    """

    def __init__(self, scorer: Scorer, stages: Stages, recorder: Recorder) -> None:
        self.scorer = scorer
        self.stages = stages
        self.recorder = recorder
        self._is_warned = False

    def __call__(self, step: int, samples: Sequence[Sample], stop: StopRequest) -> None:
        """Score the samples of a step, unless a stop is requested."""
        try:
            found = self.scorer.score(samples, stop)
        except (UserError, OSError) as error:
            self.stages.warn(f"the samples of step {step} are not scored: {error}")
            return
        if found is None:
            return
        if found.num_lost and not self._is_warned:
            self._is_warned = True
            self.stages.warn(
                f"scores: {found.num_lost} samples without the trigger word have no picture of step 0 with the same "
                "settings to compare with, so they do not count in the drift"
            )
        figures = found.figures()
        if figures:
            told = ", ".join(f"{_LABELS[name]} {value:.3f}" for name, value in figures.items())
            self.stages.progress.message(f"scores at step {step}: {told}")
            self.stages.events.write("scores", step=step, **figures)
            self.recorder.add(step, {f"scores/{name}": value for name, value in figures.items()})
