"""Rewrites files as a LoRA: with another program's key names, at another rank, as the sum of several, or by SVD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from toolkit.cards import find_cards
from toolkit.errors import UserError
from toolkit.lora.changes import Product
from toolkit.lora.commands.low_rank import Goal, nearest, reduced
from toolkit.lora.commands.model_weights import ModelWeights, files_of
from toolkit.lora.files import AdapterFile, read_adapter_file, read_lora_file, usual_format, write_updates
from toolkit.lora.update import LayerLocation, Update, norm
from toolkit.util.get_model import model_classes


def convert(
    path: Path, output: Path, *, file_format: str | None, arch: str | None = None, without: tuple[str, ...] = ()
) -> list[str]:
    """Write a LoRA file in another format, by default the one that jobs write. Returns lines for the user.

    Raises:
        UserError: the file cannot be read, or the format cannot represent one of its layers.
    """
    source = read_lora_file(path, arch=arch, without=without)
    file_format = file_format or usual_format(source.model)
    write_updates(output, source, source.updates, file_format=file_format)
    return [f"{output}: {len(source.updates)} layers as {file_format}, read back and equal to {path}"]


def resize(
    path: Path,
    output: Path,
    *,
    goal: Goal,
    base: Path | None = None,
    file_format: str | None,
    arch: str | None = None,
    without: tuple[str, ...] = (),
) -> list[str]:
    """Write a file as a LoRA of another rank: the best approximation at a smaller one, or the same change at a larger.

    Args:
        path: a file of any kind.
        output: the file to write.
        goal: the rank, or the share of the energy to keep.
        base: the model, which kinds need whose change depends on its weights (DoRA, OFT).
        file_format: format of the new file; None for the one that jobs write.
        arch: see `read_adapter_file`.
        without: see `read_adapter_file`.

    Returns:
        Lines for the user, with how much of the change was lost.

    Raises:
        UserError: the file cannot be read, needs a base, or the format cannot represent one of its layers.
    """
    source = read_adapter_file(path, arch=arch, without=without)
    if all(isinstance(c, Product) and c.kind == "LoRA" for c in source.changes.weights.values()):
        whole = read_lora_file(path, arch=arch, without=without).updates
    else:
        whole = _as_lora(source, base, goal)
    updates, lost = {}, {}
    for target, update in whole.items():
        updates[target], lost[target] = reduced(update, goal)
    sizes = {target: norm(update) for target, update in whole.items()}
    write_updates(output, source, updates, file_format=file_format or usual_format(source.model))
    return [f"{output}: {len(updates)} layers of rank {_ranks(updates)}, read back", _lost(sizes, lost)]


def add_up(
    paths: Sequence[Path],
    output: Path,
    *,
    weights: Sequence[float],
    goal: Goal,
    file_format: str | None,
    arch: str | None = None,
    without: tuple[str, ...] = (),
) -> list[str]:
    """Write the weighted sum of LoRA files as one. Their ranks add up, unless `goal` asks for less.

    Raises:
        UserError: a file cannot be read, is more than a LoRA, or the files are for different models.
    """
    if not all(map(math.isfinite, weights)):
        raise UserError("--weight: must be a finite number.")
    sources = [read_lora_file(path, arch=arch, without=without) for path in paths]
    if len({find_cards()[source.model.arch].family for source in sources}) > 1:
        raise UserError("The files are for different models: " + ", ".join(str(source.path) for source in sources))
    sums: dict[str, Update] = {}
    for source, weight in zip(sources, weights, strict=True):
        for target, update in source.updates.items():
            added = Update(update.a, update.b * weight)
            sums[target] = _sum(sums[target], added, target) if target in sums else added
    updates, lost = {}, {}
    for target, update in sums.items():
        updates[target], lost[target] = reduced(update, goal) if goal.is_set else (update, 0.0)
    # What the header says of the training is true of none of them.
    source = replace(sources[0], metadata={}, dtype=torch.float32 if len(sources) > 1 else sources[0].dtype)
    write_updates(output, source, updates, file_format=file_format or usual_format(source.model))
    sizes = {target: norm(update) for target, update in sums.items()}
    names = ", ".join(f"{source.path} at {weight:g}" for source, weight in zip(sources, weights, strict=True))
    return [f"{output}: {len(updates)} layers of rank {_ranks(updates)}, the sum of {names}", _lost(sizes, lost)]


def extract(
    tuned: Path, base: Path, output: Path, *, goal: Goal, file_format: str | None, arch: str | None = None
) -> list[str]:
    """Write the difference of two models as a LoRA. Needs memory for one weight at a time.

    Args:
        tuned: a fine-tuned model: a safetensors file or a diffusers folder, in any layout.
        base: the model it was made from.
        output: the file to write.
        goal: the rank, or the share of the energy to keep.
        file_format: format of the file; None for the one that jobs write.
        arch: the model; None to find it by the names of the weights.

    Raises:
        UserError: the models differ in their layers or shapes, or not at all.
    """
    one, other = ModelWeights(files_of(tuned)), ModelWeights(files_of(base))
    known = model_classes()
    if arch is not None and arch not in known:
        raise UserError(f"--arch {arch}: no such model. Known: {', '.join(known)}")
    candidates = [known[arch]] if arch is not None else list(known.values())
    model = max(candidates, key=lambda model: len(one.located(".weight", model.locate_layer)))
    places = one.located(".weight", model.locate_layer)
    targets = list(dict.fromkeys(target for where, _ in places.values() for target in where.shares()))
    if not targets:
        raise UserError(f"{tuned}: has no layers of a known model. Name the model with --arch.")
    ours, theirs = (weights.rows(".weight", model.locate_layer) for weights in (one, other))
    updates, lost, sizes = {}, {}, {}
    for target in targets:
        places_of = [rows.find(LayerLocation(target)) for rows in (ours, theirs)]
        if not all(places_of):
            raise UserError(f"{base if places_of[0] else tuned}: lacks the layer {target}: it is another model.")
        new, old = one.layer(places_of[0]), other.layer(places_of[1])
        if new.shape != old.shape:
            raise UserError(f"{target}: has shape {list(new.shape)} and {list(old.shape)}: these are different models.")
        difference = new - old
        if bool(difference.any()):
            updates[target], lost[target] = nearest(difference, goal)
            sizes[target] = float(difference.norm())
    if not updates:
        raise UserError(f"{tuned} and {base} do not differ in any linear layer.")
    source = AdapterFile.of_model(tuned, model, arch)
    write_updates(output, source, updates, file_format=file_format or usual_format(model))
    rest = f", {len(targets) - len(updates)} are equal" if len(updates) < len(targets) else ""
    return [f"{output}: {len(updates)} layers of rank {_ranks(updates)}{rest}, read back", _lost(sizes, lost)]


def _as_lora(source: AdapterFile, base: Path | None, goal: Goal) -> dict[str, Update]:
    """The nearest LoRA to the changes of a file of any kind."""
    changes = source.changes
    if changes.biases or changes.others:
        raise UserError(f"{source.path}: also has changes of biases or norms, which a LoRA cannot represent.")
    weights = None if base is None else ModelWeights(files_of(base))
    rows = None if weights is None else weights.rows(".weight", source.model.locate_layer)
    found = {}
    for where, change in changes.weights.items():
        if isinstance(change, Product):
            delta = change.update.delta()
        elif weights is None or rows is None:
            raise UserError(
                f"{source.path}: contains {change.kind}, whose change depends on the model's weights. Name the model "
                "with --base."
            )
        elif not (places := rows.find(where)):
            raise UserError(f"{base}: lacks the layer {', '.join(where.shares())}. Is it the model of the file?")
        else:
            try:
                delta = change.delta(weights.layer(places))
            except ValueError as error:
                raise UserError(f"{base}: {error}.") from error
        found[where] = Product(nearest(delta, goal)[0])
    return replace(changes, weights=found).updates()


def _sum(one: Update, other: Update, target: str) -> Update:
    if one.a.shape[1] != other.a.shape[1] or one.b.shape[0] != other.b.shape[0]:
        raise UserError(f"{target}: has different shapes in the files: they are for different models.")
    return Update(torch.cat([one.a, other.a]), torch.cat([one.b, other.b], dim=1))


def _ranks(updates: Mapping[str, Update]) -> str:
    ranks = {update.rank for update in updates.values()}
    return str(max(ranks)) if len(ranks) == 1 else f"{min(ranks)} to {max(ranks)}"


def _lost(sizes: Mapping[str, float], lost: Mapping[str, float]) -> str:
    total = sum(size**2 for size in sizes.values()) ** 0.5
    all_lost = sum((lost[target] * size) ** 2 for target, size in sizes.items()) ** 0.5
    worst = max(lost, key=lambda target: lost[target])
    return (
        f"  {100 * all_lost / total if total else 0:.3g} % of the change was lost (Frobenius norm), "
        f"most in {worst} ({100 * lost[worst]:.3g} %)"
    )
