"""What a LoRA file is, in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from toolkit.lora.files import ARCH, HASH, LoraFile, read_lora_file, stated
from toolkit.lora.update import norm


def info(path: Path, *, arch: str | None = None) -> list[str]:
    """Lines about a file: model, format, ranks, size of the change, where it came from, whether it is as written.

    Raises:
        UserError: it cannot be read, or belongs to no known model.
    """
    file = read_lora_file(path, arch=arch)
    ranks = Counter(update.rank for update in file.updates.values())
    num_weights = sum(update.a.numel() + update.b.numel() for update in file.updates.values())
    size = sum(norm(update) ** 2 for update in file.updates.values()) ** 0.5
    lines = [
        f"{path}: LoRA for {file.metadata.get(ARCH, 'a model of the family of ' + file.model.arch)}",
        f"  keys: {file.spelling}, {str(file.dtype).removeprefix('torch.')}",
        f"  {len(file.updates)} layers, rank "
        + ", ".join(f"{rank}" if len(ranks) == 1 else f"{rank} ({count} x)" for rank, count in sorted(ranks.items())),
        f"  {num_weights / 1e6:.2f} M weights, norm of the whole change {size:.4g}",
    ]
    return lines + [f"  {line}" for line in (*_origin(file), _intact(file))]


def _origin(file: LoraFile) -> list[str]:
    training, base, network = (stated(file.metadata, key) for key in ("training_info", "base_model", "network"))
    lines = []
    if network:
        lines.append(f"trained with rank {network.get('rank')}, alpha {network.get('alpha')} (in the weights already)")
    if training:
        lines.append(f"step {training.get('step')}, epoch {training.get('epoch')}")
    if base:
        lines.append(f"trained on {base.get('name')} (weights {str(base.get('fingerprint'))[:12]})")
    if phrase := file.metadata.get("modelspec.trigger_phrase"):
        lines.append(f"trigger word: {phrase}")
    return lines


def _intact(file: LoraFile) -> str:
    if HASH not in file.metadata:
        return f"sha256 of the tensors: {file.hash}"
    if file.metadata[HASH].removeprefix("0x") == file.hash:
        return f"sha256 of the tensors: {file.hash}, as the header says"
    return f"sha256 of the tensors: {file.hash}, but the header says {file.metadata[HASH]}: they were changed"
