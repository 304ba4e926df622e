"""A file's changes of any kind, active but not trained, computed from the weights of each layer when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.errors import UserError
from toolkit.lora.changes import Change
from toolkit.lora.rotations import LeftRotation
from toolkit.lora.rows import RowMap, Rows
from toolkit.lora.update import Location, SizedTarget
from toolkit.models.base_model import BaseModel
from toolkit.networks.frozen import Attached
from toolkit.quantize.frozen_linear import weight_of

T = TypeVar("T")


class FrozenChanges(Attached):
    """Adds the product with W' - W to the output of some linear layers, whatever their number format.

    W' - W of a layer is in memory only while the layer runs; the file's own tensors stay.
    """

    def __init__(self, changes: Mapping[Location, Change]) -> None:
        super().__init__()
        self.changes = changes

    def attach(self, model: BaseModel, *, source: str) -> None:
        """Attach the changes to the layers of a loaded model.

        Raises:
            UserError: the model lacks a layer, or has it in another shape.
        """
        transformer, rows = model.transformer, row_map(model, model.plan_lora_targets())
        for where, found in _places(self.changes, rows, source=source):
            layers = [transformer.get_submodule(part.key) for part in found]
            device = model.device_of(layers[0])
            pieces = _Pieces(moved(self.changes[where], device), layers, found, device)
            for index, layer in enumerate(layers):
                self._handles.append(layer.register_forward_hook(self._hook(pieces, index)))

    def _hook(self, pieces: _Pieces, index: int) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not self.strength:
                return output
            delta, part = pieces.take(index), pieces.rows[index]
            x = inputs[0]
            added = self.strength * functional.linear(x, delta.to(x.dtype)).to(output.dtype)
            before, after = part.start, output.shape[-1] - part.stop
            return output + functional.pad(added, (before, after))

        return add


class _Pieces:
    """The rows of W' - W that belong to each layer of a weight that may be spread over several, in order."""

    def __init__(self, change: Change, layers: Sequence[nn.Module], rows: Sequence[Rows], device: torch.device) -> None:
        self.change = change
        self.layers = layers
        self.rows = rows
        self.device = device
        self._made: dict[int, Tensor] = {}

    def take(self, index: int) -> Tensor:
        """The rows of one layer, [rows, inputs], fp32. The others wait until their layers run."""
        if index not in self._made:
            with torch.autocast(self.device.type, enabled=False):
                self._made = dict(enumerate(self._compute()))
        return self._made.pop(index)

    def _compute(self) -> Sequence[Tensor]:
        pairs = zip(self.layers, self.rows, strict=True)
        weights = [weight_of(layer, torch.float32)[part.start : part.stop].to(self.device) for layer, part in pairs]
        return self.change.delta(torch.cat(weights)).split([part.stop - part.start for part in self.rows])


def row_map(model: BaseModel, targets: Sequence[SizedTarget]) -> RowMap:
    """Finds the rows of layers in those of a model, which need not be loaded."""
    layers = {module: (target.outputs // len(target.modules)) for target in targets for module in target.modules}
    located = {module: (model.locate_layer(module), rows) for module, rows in layers.items()}
    return RowMap({module: (where, rows) for module, (where, rows) in located.items() if where is not None})


def check_changes(model: BaseModel, changes: Mapping[Location, Change], *, source: str) -> None:
    """Check that a model, which need not be loaded, has the layers that a file changes.

    Raises:
        UserError: it lacks one, or has it in another shape.
    """
    targets = model.plan_lora_targets()
    inputs = {module: target.inputs for target in targets for module in target.modules}
    for where, found in _places(changes, row_map(model, targets), source=source) if targets else ():
        rows, change = sum(part.stop - part.start for part in found), changes[where]
        weight = torch.empty(rows, inputs[found[0].key], device="meta")
        try:
            if isinstance(change, LeftRotation):  # computes with the value of a norm, and fits any number of inputs
                if change.num_rows != rows:
                    raise ValueError(f"has {rows} outputs, but the file is for {change.num_rows}")
            else:
                moved(change, torch.device("meta")).delta(weight)
        except (ValueError, RuntimeError) as error:
            names = ", ".join(part.key for part in found)
            raise UserError(f"{source}: {names}: {error}. The file was made for another model.") from error


def num_bytes(changes: Mapping[Location, Change]) -> int:
    """Bytes that the file's tensors take in memory."""
    return sum(tensor.numel() * tensor.element_size() for change in changes.values() for tensor in _tensors(change))


def moved(value: T, device: torch.device) -> T:
    """A change, and all that it is made of, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: moved(getattr(value, one.name), device) for one in fields(value)})
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from _tensors(getattr(value, one.name))


def _places(
    changes: Mapping[Location, Change], rows: RowMap, *, source: str
) -> Iterator[tuple[Location, Sequence[Rows]]]:
    for where in changes:
        found = rows.find(where)
        if not found:
            raise UserError(f"{source}: changes {next(iter(where.shares()))}, which this model does not have.")
        yield where, found
