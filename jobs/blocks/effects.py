"""What each block of a trained network does to the loss, on a fixed grid of images, noise levels and noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from toolkit.models.base_model import BaseModel
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.path import mix
from toolkit.randomness import Draws
from toolkit.train.prediction import Prediction
from toolkit.train.trainable import NetworkWeights
from toolkit.units import duration

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


@dataclass(frozen=True)
class BlockEffect:
    """What a block's part of a network does to the loss.

    Attributes:
        name: the block's name in the released model.
        num_layers: number of its layers that the network changes.
        change: mean change of the loss without it, over the grid; above 0: the loss is worse without it.
        error: standard error of that mean, between images.
        by_level: the change at each noise level, from little noise to much.
    """

    name: str
    num_layers: int
    change: float
    error: float
    by_level: tuple[float, ...]


@dataclass(frozen=True)
class BlockStudy:
    """The result of a study.

    Attributes:
        file: the file of the network.
        sigmas: the noise levels.
        num_images: number of images.
        with_all: mean loss with the whole network.
        without_any: mean loss of the model without it.
        blocks: the blocks in the model's order.
    """

    file: str
    sigmas: tuple[float, ...]
    num_images: int
    with_all: float
    without_any: float
    blocks: tuple[BlockEffect, ...]


def measured(meter: Meter, file: Path, say: Callable[[str], None]) -> BlockStudy:
    """Measure every block.

    Args:
        meter: measures the loss.
        file: the file of the network, for the result.
        say: called with the time that it will take.
    """
    blocks = meter.blocks()
    meter.losses(images=1)  # the first pass of a process is slower
    began = time.monotonic()
    meter.losses(images=1)
    rounds = (len(blocks) + 2) * meter.num_images
    seconds = (time.monotonic() - began) * rounds
    say(f"{len(blocks)} blocks: {rounds * meter.grid.num_levels} passes through the model, about {duration(seconds)}")
    whole = meter.losses()
    nothing = meter.losses(frozenset().union(*blocks.values()))
    effects = []
    for name, targets in blocks.items():
        change = meter.losses(targets) - whole  # [images, levels]
        by_image = change.mean(dim=1)
        error = float(by_image.std()) / len(by_image) ** 0.5 if len(by_image) > 1 else float("nan")
        effects.append(BlockEffect(name, len(targets), float(change.mean()), error, tuple(change.mean(dim=0).tolist())))
    return BlockStudy(
        str(file),
        tuple(meter.grid.sigmas),
        meter.num_images,
        float(whole.mean()),
        float(nothing.mean()),
        tuple(effects),
    )


def as_text(study: BlockStudy) -> list[str]:
    """The table of a study, one line for each block."""
    gain = study.without_any - study.with_all
    width = max(len(block.name) for block in study.blocks)
    levels = " ".join(f"{sigma:>9.2f}" for sigma in study.sigmas)
    lines = [
        f"{study.file}: loss {study.with_all:.5f} with it, {study.without_any:.5f} without, mean of "
        f"{study.num_images} images at {len(study.sigmas)} noise levels",
        "Change of the loss without the part of one block (above 0: the block helps), and at each noise level:",
        f"{'block':<{width}} layers    change   +- error  of gain {levels}",
    ]
    for block in study.blocks:
        share = f"{100 * block.change / gain:6.1f} %" if gain > 0 else "       -"
        by_level = " ".join(f"{value:>+9.5f}" for value in block.by_level)
        lines.append(
            f"{block.name:<{width}} {block.num_layers:>6} {block.change:>+9.5f}  {block.error:>9.5f} {share} {by_level}"
        )
    return lines


class Meter:
    """Measures the loss with some parts of a network off.

    Args:
        model: the loaded model.
        network: the network on it.
        batches: a batch of one image for each image, by its number.
        grid: the noise levels, and the seed of the noise.
    """

    def __init__(self, model: BaseModel, network: Network, batches: Mapping[int, Batch], grid: Grid) -> None:
        self.model = model
        self.network = network
        self.grid = grid
        self._batches = batches
        self._weights = NetworkWeights(network)

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
