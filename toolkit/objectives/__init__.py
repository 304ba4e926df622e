"""What a training step minimises."""

from __future__ import annotations

from collections.abc import Callable

from toolkit.config import TrainConfig
from toolkit.objectives.objective import Objective
from toolkit.objectives.velocity import VelocityObjective

# Name -> makes the objective as the `train` section says.
OBJECTIVES: dict[str, Callable[[TrainConfig], Objective]] = {"velocity": VelocityObjective.from_config}
