"""Writes docs/quality.md from the results of `benchmarks.quality`; --check only reports whether it is stale."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.quality_rows import (  # noqa: E402
    CLASS_PRESERVED,
    LINEAR,
    OBJECT_PLAIN,
    SHORT,
    SHORT_PLAIN,
    TWICE_THE_STEPS,
    Row,
)
from benchmarks.quality_tasks import NUM_PROMPTS, TASKS  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402
from scripts.quality_figures import Figures, figures  # noqa: E402
from scripts.quality_tables import (  # noqa: E402
    OPTIMIZER_RULE,
    USUAL_SEEDS,
    network_table,
    optimizer_table,
    rows_of,
    score_table,
    short_table,
)

DOCUMENT = Path("docs/quality.md")
_PLAIN_NAMES = {
    "networks": "a LoRA of rank 32",
    "optimizers": "AdamW",
    "noise": "sigmoid levels with `content`",
}
_QUESTIONS = {
    "networks": "Which of the networks?",
    "optimizers": "Which of the optimizers?",
    "noise": "Which noise levels learn faster?",
}
_GUIDANCE = ("guidance-aware", "differential guidance")
_INTRODUCTION = """\
# What settings do to what is learned and what is kept

Written by `python scripts/write_quality_docs.py` from `benchmarks/results/quality.json`; do not edit. Measured with
`python -m benchmarks.quality` on the **tiny** FLUX.2 of this repository (5 M weights, 128 x 128 pixels) on a CPU. The
figures show which way a setting works. How far it goes with a real model, at its learning rates and numbers of steps,
they do not show.

Unless a row says otherwise, a run trains a LoRA of rank 32 with AdamW at 5e-3, four pictures a step, with sigmoid noise
levels and `content_or_style: content`. Then {prompts} held-out prompts of each kind are drawn, and judged by rules:

- **concept**: the share of prompts for what was taught that show it;
- **kept**: the share of ordinary prompts that are drawn correctly (before training: {kept});
- **rest**: what else the prompts for the concept ask for, where a section says so;
- **CPU**: the CPU time of a run on one core, including about 2 s for the start.

A figure is the mean over {seeds} seeds, unless a row says otherwise, ± half of its 95 % interval (Student's t). A seed
decides the first weights, the order of the pictures and the noise of training; prompts and their noise are the same for
all. The last column compares rows seed by seed, and names a difference only if its interval does not contain 0. In so
many comparisons, about one in twenty would do so by chance. "No difference shown" does not say that there is none: five
seeds show large ones only. Rows with fewer than three seeds are left out.
"""
_BF16 = """
Runs of the object with 80 steps, in the tables of preservation and guidance, multiplied in bf16 on a processor that
can; all others are in fp32. No row of one kind is compared with one of the other.
"""


def main(arguments: list[str] | None = None) -> int:
    """Write or check the document."""
    texts = {DOCUMENT: document(figures())}
    return write_or_check(REPOSITORY, texts, arguments, script="scripts/write_quality_docs.py", description=__doc__)


def document(found: Figures) -> str:
    """The content of docs/quality.md."""
    kept = f"{found.base['object']['kept']:.2f}"
    lines = [_INTRODUCTION.format(prompts=NUM_PROMPTS, kept=kept, seeds=USUAL_SEEDS)]
    if found.in_bf16:
        lines.append(_BF16)
    for section in (_answers, _preservation, _masks, _guidance, _noise, _losses, _networks, _optimizers, _edits):
        lines += [*section(found), ""]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _answers(found: Figures) -> Iterator[str]:
    """What the tables show, in one sentence for each question."""
    objectives = [row for row in rows_of(found, group="objectives") if row != OBJECT_PLAIN]
    preserving = [row for row in objectives if row.name not in _GUIDANCE]
    guided = [row for row in objectives if row.name in _GUIDANCE]
    yield "## In short\n"
    yield f"- **Does preservation preserve?** Against plain: {_differences(found, preserving, OBJECT_PLAIN)}"
    longer, preserved = (row for row in rows_of(found, group="objectives") if row in (TWICE_THE_STEPS, CLASS_PRESERVED))
    yield f"  At about the same CPU time, *{preserved.name}* against *{longer.name}*:"
    yield f"  {found.verdict(preserved.key, longer.key)}."
    masked = rows_of(found, task="masked", group="objectives")
    if len(masked) > 1:
        yield f"- **Does the mask mask?** Against none: {_differences(found, masked[1:], masked[0])}"
    yield f"- **What does guidance do?** Against plain: {_differences(found, guided, OBJECT_PLAIN)}"
    for name, question in _QUESTIONS.items():
        rows = rows_of(found, group=name)
        if rows:
            yield f"- **{question}** Against {_PLAIN_NAMES[name]}: {_differences(found, rows, SHORT_PLAIN)}"


def _differences(found: Figures, rows: list[Row], other: Row) -> str:
    told: dict[str, list[str]] = {}
    for row in rows:
        told.setdefault(found.verdict(row.key, other.key), []).append(row.name.partition(": ")[2] or row.name)
    return "; ".join(f"*{'*, *'.join(names)}* {verdict}" for verdict, names in told.items()) + "."


def _preservation(found: Figures) -> Iterator[str]:
    rows = [row for row in rows_of(found, group="objectives") if row.name not in _GUIDANCE]
    yield "## Does preservation preserve?\n"
    yield from _taught("object")
    yield from _compared(found, rows)
    yield "\nWith a set of ordinary pictures, half of the pictures of each step are from it, so that the object is seen"
    yield "half as often, unless the run is twice as long. Preserving a class or the blank prompt makes every step more"
    yield "expensive instead.\n"
    styles = rows_of(found, task="style", group="objectives")
    if len(styles) > 1:
        yield from _taught("style")
        yield from _compared(found, styles)


def _masks(found: Figures) -> Iterator[str]:
    rows = rows_of(found, task="masked", group="objectives")
    if len(rows) > 1:
        yield "## Does the mask mask?\n"
        yield from _taught("masked")
        yield from _compared(found, rows)
        yield "\nWith a mask alone, nothing tells the run what to do outside it, and a LoRA changes that area, too."
        yield "`inverted_mask_prior` trains it towards what the base draws. In these steps, little of the emblem"
        yield "was learned on other backgrounds."


def _guidance(found: Figures) -> Iterator[str]:
    rows = [row for row in rows_of(found, group="objectives") if row.name in _GUIDANCE]
    yield "## What do guidance-aware loss and differential guidance do?\n"
    yield from _compared(found, [OBJECT_PLAIN, *rows])
    yield "\nThe tiny model is not distilled: there is no guidance in its weights that `do_guidance_loss` could keep,"
    yield "and the row shows only what that loss does to such a model. `do_differential_guidance` multiplies the"
    yield "gradient by its scale, which AdamW divides out again, and clipping limits."


def _noise(found: Figures) -> Iterator[str]:
    if table := short_table(found, "sigmoid, content", group="noise"):
        yield "## Which noise levels learn faster?\n"
        yield from _short()
        yield from table


def _losses(found: Figures) -> Iterator[str]:
    rows = rows_of(found, group="losses")
    if not rows:
        return
    yield "## Do weightings and distances matter?\n"
    yield from _short()
    weightings = [row for row in rows if row.name.startswith("weighting")]
    if weightings and found.has(LINEAR.key):
        yield "Weightings, with linear noise levels:\n"
        yield from _compared(found, [LINEAR, *weightings])
        yield ""
    distances = [row for row in rows if row not in weightings]
    if distances:
        yield "Distances; plain has the squared error:\n"
        yield from _compared(found, [SHORT_PLAIN, *distances])


def _networks(found: Figures) -> Iterator[str]:
    if table := network_table(found):
        yield "## Which network?\n"
        yield from _short("Each kind has a learning rate at which it learned. State is that of AdamW in checkpoints.")
        yield from table


def _optimizers(found: Figures) -> Iterator[str]:
    if table := optimizer_table(found):
        yield "## Which optimizer?\n"
        yield from _short(OPTIMIZER_RULE)
        yield from table


def _short(more: str = "") -> Iterator[str]:
    steps = round(SHORT * TASKS["object"].steps)
    text = (
        f"The object again, in {steps} steps: plain has not learned it all by then, so that a faster way shows. {more}"
    )
    yield textwrap.fill(text, width=120)
    yield ""


def _edits(found: Figures) -> Iterator[str]:
    rows = rows_of(found, task="edit", group="objectives")
    if len(rows) > 1:
        yield "## Edits\n"
        yield from _taught("edit")
        yield from _compared(found, rows)


def _taught(name: str) -> Iterator[str]:
    task = TASKS[name]
    rest = f" Rest: {task.rest}." if task.rest else ""
    yield f"Taught: {task.about}, in {task.steps} steps.{rest}\n"


def _compared(found: Figures, rows: list[Row]) -> Iterator[str]:
    """A table of rows against the first of them; nothing without another."""
    if len(rows) < 2:
        return
    yield from score_table(found, {row.name: row for row in rows}, against=rows[0], name="settings", extra=("cpu_s",))


if __name__ == "__main__":
    sys.exit(main())
