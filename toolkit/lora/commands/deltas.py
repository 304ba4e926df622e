"""The change that a file of any kind makes to each weight of the released model, one weight at a time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.changes import Change, Difference, Hadamard, Product
from toolkit.lora.commands.model_weights import ModelWeights, files_of
from toolkit.lora.files import AdapterFile
from toolkit.lora.update import FusedLocation, Location, split_rows, swap_halves


class Deltas:
    """The changes of a file.

    Args:
        source: the file.
        base: the model, which kinds need whose change depends on its weights (DoRA, OFT, GLoRA).

    Raises:
        UserError: the file also changes biases or norms.
    """

    def __init__(self, source: AdapterFile, base: Path | None) -> None:
        if source.changes.biases or source.changes.others:
            raise UserError(f"{source.path}: also has changes of biases or norms, which a LoRA cannot represent.")
        self.source = source
        self.base = base
        weights = None if base is None else ModelWeights(files_of(base))
        self._weights = weights
        self._rows = None if weights is None else weights.rows(".weight", source.model.locate_layer)
        self._places: dict[str, list[Location]] = {}
        for where in source.changes.weights:
            for target in where.shares():
                self._places.setdefault(target, []).append(where)

    @property
    def targets(self) -> list[str]:
        """The weights that the file changes, by their names in the released model."""
        return list(self._places)

    def delta(self, target: str) -> Tensor:
        """The change of a weight, [outputs, inputs], fp32; zero where the file changes only some of the rows.

        Raises:
            UserError: it depends on the model's weights, and there is no base or another one.
        """
        parts = {}
        for where in self._places[target]:
            delta = self._of_layer(where)
            if isinstance(where, FusedLocation):
                return split_rows(delta, where.heights)[where.targets.index(target)].contiguous()
            if where.is_swapped:
                return swap_halves(delta)
            parts[where.part] = delta
            num_parts = where.num_parts
        if len({delta.shape for delta in parts.values()}) > 1:
            raise UserError(f"{self.source.path}: {target}: its parts have different shapes.")
        zero = torch.zeros_like(next(iter(parts.values())))
        return torch.cat([parts.get(part, zero) for part in range(num_parts)])

    def _of_layer(self, where: Location) -> Tensor:
        change: Change = self.source.changes.weights[where]
        if isinstance(change, Product):
            return change.update.delta()
        if isinstance(change, Difference):
            return change.diff.float()
        if isinstance(change, Hadamard):
            return change.one.delta() * change.other.delta() * change.scale
        if self._weights is None or self._rows is None:
            raise UserError(
                f"{self.source.path}: contains {change.kind}, whose change depends on the model's weights. Name the "
                f"model with --base: python -m toolkit.lora resize {self.source.path} --base MODEL --energy 0.99 "
                "--output NEW_FILE writes it as a LoRA."
            )
        places = self._rows.find(where)
        if not places:
            raise UserError(f"{self.base}: lacks the layer {', '.join(where.shares())}. Is it the model of the file?")
        try:
            return change.delta(self._weights.layer(places))
        except ValueError as error:
            raise UserError(f"{self.base}: {error}.") from error
