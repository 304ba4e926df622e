"""A report as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.data.report.build import DatasetReport, Report, Spread
from toolkit.data.report.doctor import CHECKS, Finding

_SHOWN = 10


def as_text(report: Report) -> str:
    """The report for a terminal."""
    lines = [line for dataset in report.datasets for line in _dataset(dataset)]
    lines += _listed("what must be fixed", report.problems)
    lines += _listed("worth knowing", report.notices)
    return "\n".join(lines)


def _dataset(one: DatasetReport) -> Iterator[str]:
    yield f"{one.source}: {one.num_images} images"
    if not one.num_images:
        return
    yield f"  width {spread(one.width)} px, height {spread(one.height)} px"
    yield f"  captions: {one.num_captioned} of {one.num_images} images, {one.num_texts} distinct"
    if one.num_texts:
        yield f"  words per caption: {spread(one.words)}"
    if frequent := [f"{part} ({count})" for part, count in one.common[:_SHOWN] if count > 1]:
        yield f"  most frequent phrases: {', '.join(frequent)}"
    for text, count in one.repeated[:_SHOWN]:
        yield f'  {count} images have the caption "{text}"'
    yield f"  crops keep {spread(one.kept, share=True)} of an image"
    yield from (f"  {width:>5} x {height:<5} {count:>6}" for (width, height), count in one.buckets)
    yield from _groups("equal files", one.exact)
    yield from _groups("nearly equal images", one.near)
    yield from _findings(one)
    for folder, paths in one.lonely.items():
        yield f"  in {folder} without an image: {_names(paths)}"


def _findings(one: DatasetReport) -> Iterator[str]:
    by_kind: dict[str, list[Finding]] = {}
    for finding in one.findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    if by_kind:
        yield "  look at these:"
    for kind, found in by_kind.items():
        check = CHECKS[kind]
        yield f"    {check.title}: {_names([finding.path for finding in found])}"
        yield f"      {check.advice}"
    for part, count in one.everywhere:
        yield f'    "{part}" is in {count} captions, so it is learned as if it were the trigger word'


def spread(value: Spread, *, share: bool = False) -> str:
    """Smallest, middle and largest, such as `512 to 2048, half below 1024`; once if all are equal."""
    low, middle, high = (
        f"{number:.0%}" if share else f"{number:g}" for number in (value.smallest, value.middle, value.largest)
    )
    return low if low == high else f"{low} to {high}, half below {middle}"


def _groups(what: str, groups: Sequence[Sequence[Path]]) -> Iterator[str]:
    if groups:
        yield f"  {what}: {len(groups)} groups"
        yield from (f"    {_names(group)}" for group in groups[:_SHOWN])
        if len(groups) > _SHOWN:
            yield f"    and {len(groups) - _SHOWN} more"


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(path.name for path in paths[:_SHOWN]) + more


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []
