"""The loss of a trained network at fixed points, with some of its parts off."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jobs.process.training_checked import TrainingChecked
from toolkit.models.base_model import BaseModel
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.path import mix
from toolkit.randomness import Draws
from toolkit.train.feed.encoded import Encoded
from toolkit.train.feeder import Feeder
from toolkit.train.prediction import Prediction
from toolkit.train.trainable import NetworkWeights

OUTSIDE = "outside blocks"


@dataclass(frozen=True)
class Grid:
    """The fixed points at which the loss is measured: every image at every noise level.

    Attributes:
        num_images: number of images, spread over the datasets.
        num_levels: number of noise levels, the middles of equal parts of 0 to 1.
        seed: of the noise, one for each image.
    """

    num_images: int = 8
    num_levels: int = 6
    seed: int = 42

    @property
    def sigmas(self) -> list[float]:
        """The noise levels, from little noise to much."""
        return [(index + 0.5) / self.num_levels for index in range(self.num_levels)]


class Meter:
    """Measures the loss on the grid, [images, levels], with some parts of the network off."""

    def __init__(
        self, checked: TrainingChecked, model: BaseModel, network: Network, encoded: Encoded, grid: Grid
    ) -> None:
        self.network = network
        self.model = model
        self.grid = grid
        examples = checked.scan.examples
        feeder = Feeder.of_run(checked.config, examples, model, encoded, ranks=checked.start.batch_ranks)
        # Every example once: the plan's order is one of its own for each epoch and stream.
        self._batches: dict[int, Batch] = {}
        index = 0
        while len(self._batches) < len(examples):
            (member, *_), number = feeder.plan.batch(index), index
            self._batches.setdefault(member, feeder.batch(number))
            index += 1
        self._weights = NetworkWeights(network, file_format=checked.config.save.lora_file_format)

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self._batches)

    def losses(self, off: frozenset[str] = frozenset(), *, images: int | None = None) -> torch.Tensor:
        """Mean squared error of the velocity, [images, levels], fp64."""
        rows = []
        draws = Draws(self.grid.seed)
        with self.network.without(off), torch.no_grad():
            for member in sorted(self._batches)[:images]:
                batch = self._batches[member]
                predict = Prediction(self.model, self._weights, draws, index=member, num_tokens=batch.num_tokens)
                noise = draws.normal(tuple(batch.latents.shape), "blocks", member).to(batch.latents)
                row = []
                for level in self.grid.sigmas:
                    sigma = torch.full((len(batch.latents),), level, device=batch.latents.device)
                    velocity = predict(mix(batch.latents, noise, sigma), sigma, batch.condition)
                    target = predict.target(batch.latents, noise)
                    row.append((velocity.float() - target.float()).square().mean().double().cpu())
                rows.append(torch.stack(row))
        return torch.stack(rows)

    def blocks(self) -> dict[str, frozenset[str]]:
        """The targets of each block, in the model's order."""
        found: dict[str, set[str]] = {}
        lists = self.model.get_transformer_block_names()
        for target in self.network.targets:
            own = next((name for name in lists if target.name.startswith(f"{name}.")), None)
            block = OUTSIDE if own is None else ".".join(target.name.split(".")[: own.count(".") + 2])
            found.setdefault(block, set()).add(target.name)
        return {name: frozenset(targets) for name, targets in found.items()}
