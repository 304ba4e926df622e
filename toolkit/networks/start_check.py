"""Checks whether training can start from a LoRA file: whether its model, layers and rank match the job's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from toolkit.cards import find_cards
from toolkit.config import NetworkConfig
from toolkit.errors import Mistakes, Problem, UserError
from toolkit.lora.header import ARCH
from toolkit.lora.parse import parse, parse_changes
from toolkit.lora.settings import read_lora_tensors
from toolkit.lora.update import Update, must_be_finite
from toolkit.models.base_model import BaseModel, SizedTarget
from toolkit.models.published_model import PublishedModel
from toolkit.networks.build import empty_parts
from toolkit.networks.files import NetworkFile
from toolkit.networks.fit import fit
from toolkit.networks.targets import filtered
from toolkit.util.get_model import model_classes

_KEY = "network.pretrained_lora_path"


def check_start(
    model: BaseModel, network: NetworkConfig, chosen: Sequence[SizedTarget] | None, known: Sequence[SizedTarget]
) -> list[Problem]:
    """What is wrong with the LoRA file that a job starts from. Reads the file, but loads no model.

    Args:
        model: the job's model, not loaded.
        network: the job's `network` section, with a `pretrained_lora_path`.
        chosen: the layers that will be trained; None if unknown: rank and layers are then not checked.
        known: all layers that can be trained.
    """
    path = network.pretrained_lora_path
    assert path is not None, "called only if there is a file to start from"
    try:
        tensors, metadata = read_lora_tensors(path)
        if chosen and any(network.at(target)[0] != "lora" for target in chosen):
            # Loading into parts without memory finds every difference of names and shapes.
            NetworkFile(model, chosen, empty_parts(chosen, network)).load(tensors, source=str(path), metadata=metadata)
            return []
        try:
            updates = parse(tensors, metadata, model.locate_layer)
        except UserError as error:
            raise UserError(f"{path}: {_describe_owner(tensors, metadata, model) or error}") from error
        must_be_finite(updates, source=str(path))
        if chosen is not None:
            _must_be_of(updates, model, known, metadata, source=path)
    except UserError as error:
        return [Problem(_KEY, str(error))]
    mistakes = Mistakes()
    if chosen is not None:
        with mistakes.gathered():
            _must_have_layers(updates, model, network, chosen, known)
        with mistakes.gathered():
            fit(updates, network.linear, source=str(path))
    return [Problem(_KEY, str(error)) for error in mistakes.errors]


def _must_be_of(
    updates: Mapping[str, Update],
    model: BaseModel,
    known: Sequence[SizedTarget],
    metadata: Mapping[str, str],
    *,
    source: Path,
) -> None:
    if not _is_of(updates, known):
        owners = _archs_of(updates)
        named = metadata.get(ARCH)
        what = named if named in owners else " or ".join(owners)
        if not what:
            what = f"a model whose layers differ from those of {model.arch}"
        raise UserError(f"{source}: is a LoRA for {what}; the job trains {model.arch}.")


def _must_have_layers(
    updates: Mapping[str, Update],
    model: BaseModel,
    network: NetworkConfig,
    chosen: Sequence[SizedTarget],
    known: Sequence[SizedTarget],
) -> None:
    path = network.pretrained_lora_path
    names, wanted = updates.keys(), {target.name for target in chosen}
    if names != wanted:
        more, missing = sorted(names - wanted), sorted(wanted - names)
        shown = "; ".join(
            f"{len(some)} {what}, such as {some[0]}" for what, some in (("extra", more), ("missing", missing)) if some
        )
        raise UserError(
            f"{path}: has {len(names)} layers, but the job trains {len(wanted)} ({shown}). To train the file's layers, "
            f"set {_filter_for(names, known, model, network)}."
        )


def _is_of(updates: Mapping[str, Update], known: Sequence[SizedTarget]) -> bool:
    shapes = {target.name: (target.outputs, target.inputs) for target in known}
    return all(shapes.get(name, _shape(update)) == _shape(update) for name, update in updates.items()) and any(
        name in shapes for name in updates
    )


def _shape(update: Update) -> tuple[int, int]:
    return update.b.shape[0], update.a.shape[1]


def _archs_of(updates: Mapping[str, Update]) -> list[str]:
    """Known models whose layers match these updates by name and shape; one arch for each size."""
    found: list[str] = []
    sizes: list[object] = []
    for arch, card in find_cards().items():
        model = model_classes()[arch]
        if card.size is None or not issubclass(model, PublishedModel):
            continue
        known = model.list_lora_targets(card.size.transformer)
        is_whole = {target.name for target in known} >= updates.keys()
        if is_whole and _is_of(updates, known) and card.size not in sizes:
            found.append(arch)
            sizes.append(card.size)
    return found


def _describe_owner(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], model: BaseModel) -> str | None:
    """What a file that this model cannot read is: for example a LoRA for another known model. None if unknown."""
    for arch, other in {model.arch: type(model), **model_classes()}.items():
        try:
            changes = parse_changes(tensors, metadata, other.locate_layer)
        except UserError:
            continue
        if arch == model.arch:
            kinds = " and ".join(changes.kinds())
            return f"contains {kinds}. Training cannot start from it, because a LoRA cannot represent that."
        owners = _archs_of(changes.updates()) if changes.is_lora() else []
        return f"is a LoRA for {' or '.join(owners) or arch}; the job trains {model.arch}."
    return None


def _filter_for(names: Collection[str], known: Sequence[SizedTarget], model: BaseModel, network: NetworkConfig) -> str:
    """Settings of `network` with which exactly these layers are trained."""
    blocks = model.get_transformer_block_names()
    is_inside = all(name.startswith(tuple(f"{block}." for block in blocks)) for name in names)
    outside = "" if is_inside == network.transformer_only else f"transformer_only: {str(is_inside).lower()}"
    kinds = sorted({re.sub(r"^(\w+)\.\d+\.", "", name) if re.match(r"\w+\.\d+\.", name) else name for name in names})
    lists = sorted({f"transformer.{name.partition('.')[0]}." for name in names})
    for patterns in ([], lists, kinds, [f"transformer.{name}" for name in sorted(names)]):
        settings = {"transformer_only": is_inside, "network_kwargs": {"only_if_contains": patterns}}
        picked = filtered(known, blocks, NetworkConfig.model_validate(settings), also=names)
        if {target.name for target in picked} == set(names):
            chosen = f"network_kwargs: {{only_if_contains: [{', '.join(patterns)}]}}" if patterns else ""
            has_filters = network.network_kwargs.only_if_contains or network.network_kwargs.ignore_if_contains
            if not patterns and has_filters:
                chosen = "no network_kwargs"
            return " and ".join(f"`network.{text}`" if ":" in text else text for text in (outside, chosen) if text)
    raise UserError(f"{network.pretrained_lora_path}: has layers that this model does not train.")
