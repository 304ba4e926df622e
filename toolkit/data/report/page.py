"""A report as one page of HTML that needs no other file."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from toolkit.config.dataset import DatasetConfig
from toolkit.data.buckets import Size
from toolkit.data.examples import Example
from toolkit.data.images import load_image
from toolkit.data.report.build import DatasetReport, Report
from toolkit.data.report.doctor import CHECKS, Finding
from toolkit.data.report.text import spread
from toolkit.data.scan_result import Scan
from toolkit.errors import UserError

THUMBNAIL_PX = 128
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1,h2,h3{line-height:1.2}table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:left}
td:nth-child(n+2){text-align:right}.row{display:flex;flex-wrap:wrap;gap:8px;margin:.5em 0 1.5em}
figure{margin:0;width:132px}img{display:block;max-width:128px;border-radius:3px}
figcaption{font-size:11px;overflow-wrap:anywhere;max-height:6.6em;overflow:auto}
.badge{color:#fff;background:#a52;border-radius:3px;padding:0 4px;white-space:nowrap}
.bad{color:#a00}.note{color:#850}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1c1c1c}.bad{color:#f88}.note{color:#fc6}}
"""


def as_page(report: Report, datasets: Sequence[DatasetConfig], scan: Scan, *, num_thumbnails: int = 24) -> str:
    """The report with thumbnails of exactly the crops that are trained; of random ones, the one in the middle.

    Args:
        report: the report.
        datasets: the job's `datasets`.
        scan: their scan.
        num_thumbnails: largest number of thumbnails in a bucket.
    """
    body = [f"<h1>{len(scan.examples)} examples</h1>"]
    body += _notes("What must be fixed", "bad", report.problems)
    body += _notes("Worth knowing", "note", report.notices)
    for index, one in enumerate(report.datasets):
        examples = [example for example in scan.examples if example.dataset_index == index]
        body += _dataset(one, examples, datasets[index].background_color, num_thumbnails)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Data report</title>"
        f"<style>{_STYLE}</style>{''.join(body)}</html>\n"
    )


def _dataset(
    one: DatasetReport, examples: Sequence[Example], background: tuple[int, int, int], most: int
) -> Iterator[str]:
    yield f"<h2>{escape(str(one.source))}</h2>"
    facts = {
        "images": str(one.num_images),
        "width": f"{spread(one.width)} px",
        "height": f"{spread(one.height)} px",
        "with a caption": f"{one.num_captioned}, {one.num_texts} distinct",
        "words per caption": spread(one.words),
        "kept by the crop": spread(one.kept, share=True),
    }
    yield _table(facts.items())
    if one.common:
        yield "<h3>Most frequent phrases in captions</h3>" + _table((part, str(count)) for part, count in one.common)
    if one.repeated:
        yield "<h3>Captions shared by several images</h3>" + _table((text, str(count)) for text, count in one.repeated)
    badges: dict[Path, list[str]] = {}
    for finding in one.findings:
        badges.setdefault(finding.path, []).append(_badge(finding))
    if one.findings:
        kinds = dict.fromkeys(finding.kind for finding in one.findings)
        counts = Counter(finding.kind for finding in one.findings)
        yield "<h3>Look at these</h3>"
        yield _table((f"{CHECKS[kind].title}: {counts[kind]}", CHECKS[kind].advice) for kind in kinds)
    if one.everywhere:
        yield "<h3>In most captions, so it is learned as if it were the trigger word</h3>"
        yield _table((part, str(count)) for part, count in one.everywhere)
    by_path = {example.path: example for example in reversed(examples)}
    for title, groups in (("Equal files", one.exact), ("Nearly equal images", one.near)):
        if groups:
            yield f"<h3>{title}</h3>"
            yield from (_row([by_path[path] for path in group], background, most, badges) for group in groups[:most])
    for folder, paths in one.lonely.items():
        yield f"<h3>Without an image, in {escape(str(folder))}</h3><p>{escape(', '.join(p.name for p in paths))}</p>"
    for bucket, members in _by_bucket(examples).items():
        yield f"<h3>{bucket[0]} x {bucket[1]}: {len(members)}</h3>"
        yield _row(members, background, most, badges)


def _by_bucket(examples: Iterable[Example]) -> Mapping[Size, list[Example]]:
    found: dict[Size, dict[tuple[Path, bool, bool], Example]] = {}
    for example in examples:
        found.setdefault(example.bucket, {})[example.path, example.flip_x, example.flip_y] = example
    return {bucket: list(members.values()) for bucket, members in sorted(found.items(), key=lambda one: -len(one[1]))}


def _row(
    examples: Sequence[Example], background: tuple[int, int, int], most: int, badges: Mapping[Path, Sequence[str]]
) -> str:
    shown = "".join(_figure(example, background, badges.get(example.path, ())) for example in examples[:most])
    more = f"<p>and {len(examples) - most} more</p>" if len(examples) > most else ""
    return f"<div class=row>{shown}</div>{more}"


def _figure(example: Example, background: tuple[int, int, int], badges: Sequence[str]) -> str:
    try:
        image = load_image(example, background=background)
    except UserError as error:
        return f"<figure><figcaption class=bad>{escape(str(error))}</figcaption></figure>"
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    source = base64.b64encode(data.getvalue()).decode()
    captions = " | ".join(dict.fromkeys(example.variants or (example.caption,)))
    return (
        f'<figure><img src="data:image/jpeg;base64,{source}" alt="{escape(example.path.name)}" '
        f'title="{escape(str(example.path))}"><figcaption>{"".join(badges)}{escape(captions)}</figcaption></figure>'
    )


def _badge(finding: Finding) -> str:
    return f'<span class=badge title="{escape(finding.detail)}">{escape(CHECKS[finding.kind].title)}</span> '


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><td>{escape(key)}<td>{escape(value)}' for key, value in rows)}</table>"


def _notes(title: str, kind: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"<h2 class={kind}>{title}</h2><ul>{''.join(f'<li>{escape(line)}' for line in lines)}</ul>"
