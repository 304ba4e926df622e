"""Describes a LoRA file in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from toolkit.lora.files import AdapterFile, read_adapter_file
from toolkit.lora.header import ARCH, HASH, stated
from toolkit.lora.parse import Changes
from toolkit.lora.update import Update, must_be_finite, norm


def info(path: Path, *, arch: str | None = None, without: tuple[str, ...] = ()) -> list[str]:
    """Describe a file: its model, kind, format, size of the change, origin, and whether it was modified later.

    Raises:
        UserError: the file cannot be read or belongs to no known model.
    """
    file = read_adapter_file(path, arch=arch, without=without)
    changes = file.changes
    kind = " and ".join(changes.kinds())
    updates = changes.updates() if changes.is_lora() else {}
    must_be_finite(updates, source=str(path))
    lines = [
        f"{path}: {kind} for {file.metadata.get(ARCH, 'a model of the same family as ' + file.model.arch)}",
        f"  keys: {changes.spelling}, {str(file.dtype).removeprefix('torch.')}",
        *(f"  {line}" for line in (_ranks(updates) if updates else _layers(changes))),
    ]
    return lines + [f"  {line}" for line in (*_origin(file), _intact(file))]


def _ranks(updates: Mapping[str, Update]) -> list[str]:
    ranks = Counter(update.rank for update in updates.values())
    num_weights = sum(update.a.numel() + update.b.numel() for update in updates.values())
    size = sum(norm(update) ** 2 for update in updates.values()) ** 0.5
    return [
        f"{len(updates)} layers, rank "
        + ", ".join(f"{rank}" if len(ranks) == 1 else f"{rank} ({count} x)" for rank, count in sorted(ranks.items())),
        f"{num_weights / 1e6:.2f} M weights, norm of the whole change {size:.4g}",
    ]


def _layers(changes: Changes) -> list[str]:
    counts = Counter(change.kind for change in changes.weights.values())
    counts += Counter({"bias changes": len(changes.biases), "norm changes": len(changes.others)})
    return [
        f"{len({*changes.weights, *changes.biases}) + len(changes.others)} layers: "
        + ", ".join(f"{kind} of {count}" for kind, count in sorted(counts.items())),
        "more than a LoRA can represent: `merge` adds it to its model, `resize` writes the nearest LoRA, and training "
        "can start from it with the same `network.type`",
    ]


def _origin(file: AdapterFile) -> list[str]:
    training, base, network = (stated(file.metadata, key) for key in ("training_info", "base_model", "network"))
    lines = []
    if network:
        lines.append(f"trained with rank {network.get('rank')}, alpha {network.get('alpha')} (folded into the weights)")
    if training:
        lines.append(f"step {training.get('step')}, epoch {training.get('epoch')}")
    if base:
        lines.append(f"trained on {base.get('name')} (weights {str(base.get('fingerprint'))[:12]})")
    if phrase := file.metadata.get("modelspec.trigger_phrase"):
        lines.append(f"trigger word: {phrase}")
    return lines


def _intact(file: AdapterFile) -> str:
    if HASH not in file.metadata:
        return f"sha256 of the tensors: {file.hash}"
    if file.metadata[HASH].removeprefix("0x") == file.hash:
        return f"sha256 of the tensors: {file.hash}, as in the header"
    return f"sha256 of the tensors: {file.hash}, but the header has {file.metadata[HASH]}: the tensors were changed"
