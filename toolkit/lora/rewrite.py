"""Rewrites a LoRA file with another program's key names or at another rank."""

from __future__ import annotations

from pathlib import Path

from toolkit.lora.files import read_lora_file, usual_format, write_updates
from toolkit.lora.update import norm, resized


def convert(
    path: Path, output: Path, *, file_format: str | None, arch: str | None = None, without: tuple[str, ...] = ()
) -> list[str]:
    """Write a LoRA file in another format, by default the one that jobs write. Returns lines for the user.

    Raises:
        UserError: the file cannot be read, or the format cannot represent one of its layers.
    """
    source = read_lora_file(path, arch=arch, without=without)
    file_format = file_format or usual_format(source)
    write_updates(output, source, source.updates, file_format=file_format)
    return [f"{output}: {len(source.updates)} layers as {file_format}, read back and equal to {path}"]


def resize(
    path: Path,
    output: Path,
    *,
    rank: int,
    file_format: str | None,
    arch: str | None = None,
    without: tuple[str, ...] = (),
) -> list[str]:
    """Write a LoRA file at another rank: the best approximation at a smaller one, or the same change at a larger one.

    Returns lines for the user, with how much of the change was lost.

    Raises:
        UserError: the file cannot be read, or the format cannot represent one of its layers.
    """
    source = read_lora_file(path, arch=arch, without=without)
    updates, lost = {}, {}
    for target, update in source.updates.items():
        updates[target], lost[target] = resized(update, rank)
    write_updates(output, source, updates, file_format=file_format or usual_format(source))
    sizes = {target: norm(update) for target, update in source.updates.items()}
    total = sum(size**2 for size in sizes.values()) ** 0.5
    all_lost = sum((lost[target] * size) ** 2 for target, size in sizes.items()) ** 0.5
    worst = max(lost, key=lambda target: lost[target])
    return [
        f"{output}: {len(updates)} layers of rank {rank}, read back",
        f"  {100 * all_lost / total if total else 0:.3g} % of the change was lost (Frobenius norm), "
        f"most in {worst} ({100 * lost[worst]:.3g} %)",
    ]
