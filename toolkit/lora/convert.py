"""The same LoRA under the names of another program."""

from __future__ import annotations

from pathlib import Path

from toolkit.lora.files import read_lora_file, usual_format, write_updates


def convert(path: Path, output: Path, *, file_format: str | None, arch: str | None = None) -> list[str]:
    """Write a LoRA file in another format; unset, the one that jobs write. Returns what to tell the user.

    Raises:
        UserError: the file cannot be read, or the format cannot carry one of its layers.
    """
    source = read_lora_file(path, arch=arch)
    file_format = file_format or usual_format(source)
    write_updates(output, source, source.updates, file_format=file_format)
    return [f"{output}: {len(source.updates)} layers as {file_format}, read back and equal to {path}"]
