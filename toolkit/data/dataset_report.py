"""Summarises the datasets in a few lines: images, captions, buckets, and the length of an epoch."""

from __future__ import annotations

from toolkit.data.batches import count_batches
from toolkit.data.scan_result import DatasetTable, Scan


def describe_scan(scan: Scan, *, batch_size: int, gradient_accumulation: int = 1) -> tuple[str, ...]:
    """Summary lines that `--check` and every start of a run print."""
    lines = [line for table in scan.tables for line in _describe_table(table)]
    regular = [example for example in scan.examples if example.is_reg]
    images = [example for example in scan.examples if not example.is_reg]
    has_turns = bool(regular and images)
    num_batches = count_batches(images or regular, batch_size)
    examples = _count(len(images or regular), "example")
    batches = _count(num_batches, "batch", "batches")
    steps = f"{num_batches * (1 + has_turns) / gradient_accumulation:.4g} steps"
    lines.append(f"one epoch: {examples} in {batches} of up to {batch_size}: {steps}")
    if has_turns:
        lines.append(f"every second step trains on regularisation images, of which there are {len(regular)}")
    return tuple(lines)


def _describe_table(table: DatasetTable) -> list[str]:
    parts = [_count(table.num_images, "image"), _captions(table)]
    if table.num_skipped:
        parts.append(f"{table.num_skipped} unreadable")
    if table.num_copies > 1:
        parts.append(f"{table.num_copies} copies of each")
    if table.num_references:
        parts.append(f"up to {_count(table.num_references, 'reference')} each")
    if table.is_reg:
        parts.append("regularisation")
    title = f"{table.source} at {table.resolution}: {', '.join(parts)}"
    return [title, *(f"  {width:>5} x {height:<5} {count:>6}" for (width, height), count in table.buckets.items())]


def _captions(table: DatasetTable) -> str:
    found, missing = _count(table.num_captions, "caption"), table.num_images - table.num_captions
    if table.uses_captions:
        return f"{found} found" + (f", {missing} missing" if missing else "")
    return f"CAPTIONS NOT USED ({found} found)" if table.num_captions else "captions not used"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
