"""Which images each step of a run trains on: its batches follow from its job alone, so nothing has to be recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toolkit.config import TrainingProcessConfig
from toolkit.data.batches import BatchPlan, shares_of
from toolkit.data.examples import Example
from toolkit.randomness import Draws


class Exposure:
    """The images of the steps of a run.

    Args:
        config: the run's settings.
        examples: all examples that the dataset scan found, as the run found them.
        batches_per_step: batches of a step on all ranks together.
    """

    def __init__(self, config: TrainingProcessConfig, examples: Sequence[Example], *, batches_per_step: int) -> None:
        self.examples = examples
        self.batches_per_step = batches_per_step
        self._plan = BatchPlan(
            examples,
            config.train.batch_size,
            Draws(config.training_seed),
            batches_per_step=batches_per_step,
            shares=shares_of(config.datasets),
        )

    def images(self, step: int) -> Counter[Path]:
        """The images of one step, counted from 1, in the order in which they are trained on, and how often each is."""
        first = (step - 1) * self.batches_per_step
        batches = (self._plan.batch(index) for index in range(first, first + self.batches_per_step))
        return Counter(self.examples[number].path for batch in batches for number in batch)

    def steps(self, image: Path, *, until: int) -> list[int]:
        """The steps that train on an image, from 1 to `until`."""
        own = {number for number, example in enumerate(self.examples) if example.path == image}
        batches = (self._plan.batch(index) for index in range(until * self.batches_per_step))
        found = (index // self.batches_per_step + 1 for index, batch in enumerate(batches) if not own.isdisjoint(batch))
        return list(dict.fromkeys(found))
