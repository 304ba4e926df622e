"""Turns the tensors of any LoRA file into updates of the released model's weights; no key is ignored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.changes import Change, Product
from toolkit.lora.keys import Layers, UnknownKeysError, sort_keys
from toolkit.lora.layer_changes import LOKR, bias_change_of, change_of
from toolkit.lora.settings import AdapterSettings, adapter_settings
from toolkit.lora.update import FusedLocation, LayerLocation, Locate, Location, Update, fuse

_LORA_ROLES = {"a", "b", "alpha", *LOKR}


@dataclass(frozen=True)
class Changes:
    """All changes that a file makes to a model.

    Attributes:
        weights: change of each layer's weight, by the layer's location.
        biases: what is added to each layer's bias, by the layer's location.
        others: what is added to parameters outside linear layers, such as norms, by name.
        spelling: the most common prefix and suffix of the file's keys.
    """

    weights: Mapping[Location, Change]
    biases: Mapping[Location, Tensor]
    others: Mapping[str, Tensor]
    spelling: str

    def is_lora(self) -> bool:
        """Whether all changes are products of small matrices, which every LoRA file can represent."""
        return not self.biases and not self.others and all(isinstance(c, Product) for c in self.weights.values())

    def kinds(self) -> list[str]:
        """Names of the kinds of change in the file."""
        others = ["bias changes"] * bool(self.biases) + ["norm changes"] * bool(self.others)
        return [*sorted({change.kind for change in self.weights.values()}), *others]

    def updates(self) -> dict[str, Update]:
        """Updates by target, if `is_lora`; layers are fused or split to match the targets."""
        products = {where: change for where, change in self.weights.items() if isinstance(change, Product)}
        return _joined({where: product.update for where, product in products.items()})


def parse(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    locate: Locate,
) -> dict[str, Update]:
    """Updates by target, in fp32 with alpha folded in; layers are fused or split to match the targets.

    Args:
        tensors: the tensors of a file in any known format.
        metadata: the file's header, which may contain alpha.
        locate: finds a layer by any of its names, dotted or with underscores, without prefix; returns None if the model
            has no such layer.

    Raises:
        UnknownKeysError: keys are unknown, occur twice, or change more than a LoRA can; it counts all of them and names
            the first few.
        UserError: a layer is incomplete, inconsistent or given twice.
    """
    layers, settings = sort_keys(tensors, locate), _settings(metadata)
    _must_be_lora(tensors, layers)
    return _changes(layers, settings).updates()


def parse_changes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], locate: Locate) -> Changes:
    """Like `parse`, for every known kind: LoRA, LoKr, LoHa, DoRA, OFT, GLoRA and full differences.

    Raises:
        UnknownKeysError: see `parse`.
        UserError: see `parse`.
    """
    layers = sort_keys(tensors, locate)
    has_magnitudes = any("magnitude" in layer.roles for layer in layers.located.values())
    return _changes(layers, _settings(metadata, has_magnitudes=has_magnitudes))


def _changes(layers: Layers, settings: AdapterSettings) -> Changes:
    _must_not_overlap(layers.located)
    weights: dict[Location, Change] = {}
    biases: dict[Location, Tensor] = {}
    for where, layer in layers.located.items():
        change = change_of(layer.name, layer.roles, settings)
        if isinstance(where, FusedLocation) and change is not None and change.num_rows is not None:
            where.check_rows(change.num_rows)
        bias = bias_change_of(layer.name, layer.roles, settings)
        weights |= {} if change is None else {where: change}
        biases |= {} if bias is None else {where: bias}
    return Changes(weights, biases, layers.others, layers.spelling)


def _settings(metadata: Mapping[str, str], *, has_magnitudes: bool = False) -> AdapterSettings:
    settings = adapter_settings(metadata)
    if settings.values.get("use_dora") and not has_magnitudes:
        raise UserError("the file is a DoRA: a LoRA cannot represent its magnitudes.")
    return settings


def _must_be_lora(tensors: Mapping[str, Tensor], layers: Layers) -> None:
    more = {key for layer in layers.located.values() for role, key in layer.keys.items() if role not in _LORA_ROLES}
    foreign = [key for key in tensors if key in more or (layers.others and key.endswith(".diff"))]
    if foreign:
        raise UnknownKeysError(foreign, len(tensors))


def _joined(updates: Mapping[Location, Update]) -> dict[str, Update]:
    parts: dict[str, dict[LayerLocation, Update]] = defaultdict(dict)
    for where, update in updates.items():
        for piece, part in where.pieces(update):
            parts[piece.target][piece] = part
    return {target: _join(target, given) for target, given in parts.items()}


def _join(target: str, given: Mapping[LayerLocation, Update]) -> Update:
    by_part = {where.part: update for where, update in given.items()}
    num_parts = {where.num_parts for where in given}.pop()
    if num_parts == 1:
        return by_part[0]
    if len({(update.a.shape[1], update.b.shape[0]) for update in by_part.values()}) > 1:
        raise UserError(f"{target}: its parts have different shapes.")
    return fuse(by_part, num_parts)


def _must_not_overlap(locations: Iterable[Location]) -> None:
    """Raises UserError if two layers of a file change the same rows of the model."""
    parts: dict[str, list[LayerLocation]] = defaultdict(list)
    for where in locations:
        own = (where,) if isinstance(where, LayerLocation) else map(LayerLocation, where.targets)
        for part in own:
            parts[part.target].append(part)
    for target, given in parts.items():
        if len({part.num_parts for part in given}) > 1 or len({part.part for part in given}) < len(given):
            raise UserError(f"{target}: occurs twice, either whole and in parts or under two names.")
