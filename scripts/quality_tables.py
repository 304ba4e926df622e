"""Tables of the quality benchmark, for docs/quality.md and for the documents of networks and optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.quality_rows import ROWS, SHORT_PLAIN, Row
from scripts.markdown_table import table
from scripts.quality_figures import Figures

USUAL_SEEDS = 5
OPTIMIZER_RULE = (
    "All train a LoRA of rank 32. Learning rates are those that the optimizers are recommended with, times 50, as "
    "AdamW's; optimizers that find their own have 1. The schedule is a cosine, but constant for the schedule-free ones "
    "and where a row says so."
)


def rows_of(found: Figures, *, task: str = "object", group: str) -> list[Row]:
    """The rows of a table that have been measured."""
    return [row for row in ROWS if row.task == task and row.group == group and found.has(row.key)]


def score_table(
    found: Figures, rows: Mapping[str, Row], *, against: Row, name: str, extra: Sequence[str] = ()
) -> Iterator[str]:
    """Lines of a table: scores with their intervals, and how each row differs from another.

    Args:
        found: what has been measured.
        rows: the rows by label.
        against: the row that the others are compared with, one of them.
        name: heading of the first column.
        extra: further columns, keys of `EXTRA`.
    """
    scores = found.scores(against.key)
    label = next(label for label, row in rows.items() if row == against)
    columns = [name, *scores, *(EXTRA[key] for key in extra), f"against {label}"]
    lines = []
    for label, row in rows.items():
        seeds = found.num_seeds(row.key)
        cells = [
            label if seeds == USUAL_SEEDS else f"{label} ({seeds} seeds)",
            *(str(found.of(row.key, score)) for score in scores),
        ]
        cells += [_extra(found, row, key) for key in extra]
        cells.append("" if row == against else found.verdict(row.key, against.key))
        lines.append(cells)
    yield from table(columns, lines)


EXTRA = {"file_bytes": "file, kB", "state_bytes": "state, kB", "cpu_s": "CPU, s"}
"""Figures beside the scores, and their headings."""


def _extra(found: Figures, row: Row, key: str) -> str:
    value = found.mean(row.key, key)
    return f"{value:.0f}" if key == "cpu_s" else f"{value / 1000:,.0f}"


def network_table(found: Figures) -> list[str]:
    """Lines of the table of networks; empty before they have been measured."""
    return short_table(found, "lora, rank 32, lr 0.005", group="networks", extra=("file_bytes", "state_bytes", "cpu_s"))


# Rows of a group to compare with each other, by their names without learning rates.
_PAIRS = {
    "networks": (
        ("dora, rank 16", "lora, rank 16"),
        ("loha, rank 8", "lora, rank 16"),
        ("oft, blocks of 32", "lora, rank 16"),
        ("fullrank", "lora, rank 16"),
        ("lokr, factor 4", "lora, rank 16"),
        ("lokr", "lora, rank 16"),
        ("lokr", "lora, rank 4"),
    ),
    "optimizers": (("schedulefree_adamw", "adamw, constant schedule"),),
}


def pair_verdicts(found: Figures, *, group: str) -> Iterator[str]:
    """Lines of a list of how rows of `networks` or `optimizers` differ from others than that of the table."""
    keys = {row.name.partition(": ")[2].rpartition(", lr")[0]: row.key for row in rows_of(found, group=group)}
    for name, other in _PAIRS[group]:
        if name in keys and other in keys:
            yield f"- *{name}* against *{other}*: {found.verdict(keys[name], keys[other])}."


def optimizer_table(found: Figures) -> list[str]:
    """Lines of the table of optimizers; empty before they have been measured."""
    return short_table(found, "adamw, lr 0.005", group="optimizers", extra=("state_bytes", "cpu_s"))


def short_table(found: Figures, plain: str, *, group: str, extra: Sequence[str] = ()) -> list[str]:
    """Lines of the table of a group that is compared with `SHORT_PLAIN`; empty before any has been measured.

    Args:
        found: what has been measured.
        plain: what the plain row is called among them.
        group: a group of `ROWS`.
        extra: see `score_table`.
    """
    rows = {row.name.partition(": ")[2]: row for row in rows_of(found, group=group)}
    if not rows:
        return []
    rows = {plain: SHORT_PLAIN} | rows
    return list(score_table(found, rows, against=SHORT_PLAIN, name=group.removesuffix("s"), extra=extra))
