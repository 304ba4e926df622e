"""Tables of the documents that are generated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """The lines of a Markdown table, without line ends.

    Args:
        columns: the headings.
        rows: the cells of each row, as many as there are headings.
    """
    yield _line(columns)
    yield "|" + "---|" * len(columns)
    yield from map(_line, rows)


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
