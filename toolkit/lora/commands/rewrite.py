"""Rewrites files as a LoRA: at another rank, as the sum of several, or by SVD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from toolkit.cards import find_cards
from toolkit.errors import UserError
from toolkit.lora.commands.deltas import Deltas
from toolkit.lora.commands.low_rank import Goal, nearest, reduced
from toolkit.lora.commands.model_weights import ModelWeights, files_of
from toolkit.lora.files import AdapterFile, read_adapter_file, read_lora_file, usual_format, write_updates
from toolkit.lora.update import LayerLocation, Update, norm
from toolkit.util.get_model import model_classes


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
    updates, lost, sizes = {}, {}, {}
    if _is_plain(source):
        for target, update in read_lora_file(path, arch=arch, without=without).updates.items():
            updates[target], lost[target] = reduced(update, goal)
            sizes[target] = norm(update)
    else:
        deltas = Deltas(source, base)
        for target in deltas.targets:
            delta = deltas.delta(target)
            updates[target], lost[target] = nearest(delta, goal)
            sizes[target] = float(delta.norm())
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
    """Write the weighted sum of files as one LoRA.

    The ranks of LoRAs add up, unless `goal` asks for less. Of other kinds the goal says how near the LoRA has to be.

    Raises:
        UserError: a file cannot be read or depends on the model's weights, the files are for different models, or a
            goal is needed.
    """
    if not all(map(math.isfinite, weights)):
        raise UserError("--weight: must be a finite number.")
    sources = [read_adapter_file(path, arch=arch, without=without) for path in paths]
    if len({find_cards()[source.model.arch].family for source in sources}) > 1:
        raise UserError("The files are for different models: " + ", ".join(str(source.path) for source in sources))
    others = sorted({kind for source in sources for kind in source.changes.kinds() if not _is_plain(source)})
    if others and not goal.is_set:
        raise UserError(
            f"The files contain {' and '.join(others)}, and the sum is written as a LoRA: give the required quality "
            "with --rank R or --energy SHARE (such as 0.99), or both. With --base MODEL, the files are added to the "
            "model without loss."
        )
    updates, lost, sizes = _sum_deltas(sources, weights, goal) if others else _sum_loras(sources, weights, goal)
    # What the header says about the training is true of none of them.
    source = replace(sources[0], metadata={}, dtype=torch.float32 if len(sources) > 1 else sources[0].dtype)
    write_updates(output, source, updates, file_format=file_format or usual_format(source.model))
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
            raise UserError(
                f"{base if places_of[0] else tuned}: lacks the layer {target}: it belongs to another model."
            )
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


Sums = tuple[dict[str, Update], dict[str, float], dict[str, float]]


def _is_plain(source: AdapterFile) -> bool:
    """Whether a file is a LoRA and nothing else."""
    changes = source.changes
    return changes.is_lora() and all(change.kind == "LoRA" for change in changes.weights.values())


def _sum_loras(sources: Sequence[AdapterFile], weights: Sequence[float], goal: Goal) -> Sums:
    """The sum of LoRAs, the share of each layer that was lost, and the size of its change."""
    sums: dict[str, Update] = {}
    for source, weight in zip(sources, weights, strict=True):
        for target, update in source.changes.updates().items():
            added = Update(update.a, update.b * weight)
            sums[target] = _sum(sums[target], added, target) if target in sums else added
    updates, lost = {}, {}
    for target, update in sums.items():
        updates[target], lost[target] = reduced(update, goal) if goal.is_set else (update, 0.0)
    return updates, lost, {target: norm(update) for target, update in sums.items()}


def _sum_deltas(sources: Sequence[AdapterFile], weights: Sequence[float], goal: Goal) -> Sums:
    """Like `_sum_loras` for any kind, with memory for one weight."""
    deltas = [Deltas(source, None) for source in sources]
    updates, lost, sizes = {}, {}, {}
    for target in dict.fromkeys(target for one in deltas for target in one.targets):
        parts = [w * one.delta(target) for one, w in zip(deltas, weights, strict=True) if target in one.targets]
        if len({part.shape for part in parts}) > 1:
            raise UserError(f"{target}: has different shapes in the files: they are for different models.")
        whole = torch.stack(parts).sum(dim=0)
        updates[target], lost[target] = nearest(whole, goal)
        sizes[target] = float(whole.norm())
    return updates, lost, sizes


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
