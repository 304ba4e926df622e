"""What an objective gives for one batch, as a test compares it."""

from __future__ import annotations

from torch import Tensor

from toolkit.objectives.batch import Batch
from toolkit.objectives.objective import Objective, Predict
from toolkit.randomness import Draws


def losses_of(objective: Objective, batch: Batch, predict: Predict, draws: Draws) -> dict[str, Tensor]:
    """All terms of the loss, each [B], with the shares of each added up."""
    found: dict[str, Tensor] = {}
    for part in objective.losses(batch, predict, draws):
        found |= {name: found[name] + term if name in found else term for name, term in part.items()}
    return found
