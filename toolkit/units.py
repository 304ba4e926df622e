"""Sizes and durations in messages. 1 GB is 2^30 bytes throughout, as GPU makers and drivers count."""

from __future__ import annotations

GB = 2**30
MB = 2**20


def gigabytes(num_bytes: float) -> str:
    """The number without its unit, for tables with the unit in the header."""
    return f"{num_bytes / GB:.1f}" if num_bytes >= GB / 20 else f"{num_bytes / GB:.2f}"


def as_size(num_bytes: float) -> str:
    """A size with its unit: `1.5 GB`, `20.0 MB`."""
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB else f"{num_bytes / MB:.1f} MB"


def duration(seconds: float) -> str:
    """`42s`, `3m 05s` or `2h 07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
