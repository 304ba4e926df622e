"""Writes docs/vram.md from the memory plan; --check only reports whether it is stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts.generated import write_or_check  # noqa: E402
from scripts.markdown_table import table  # noqa: E402
from toolkit.cards import ModelCard, find_cards  # noqa: E402
from toolkit.model_size import ModelSize  # noqa: E402
from toolkit.plan.changes import frozen_weight_changes, ways_to_fit  # noqa: E402
from toolkit.plan.machine import named_card  # noqa: E402
from toolkit.plan.plan_inputs import PlanInputs, Workload  # noqa: E402
from toolkit.units import gigabytes  # noqa: E402

DOCUMENT = Path("docs/vram.md")
SIZES_PX = (512, 768, 1024, 1536)
CARDS_GB = (8, 12, 16, 24, 32, 48, 80, 141)
_INTRODUCTION = """\
# What fits on which card

Written by `python scripts/write_vram_docs.py` from the memory plan; do not edit. All figures are **computed**. On an
H100, 17 steps of klein 4B, klein 9B and dev took 0 to 9 % less than planned, and whole runs of klein 4B between 1 %
more and 3 % less (`benchmarks/results/`, torch 2.11, random weights), all with the backward pass of autograd. The one
that blocks have of their own now (docs/performance.md) is planned from counts, within 5 % of them; it and smaller cards
have not been measured.
`python run.py JOB --check` makes the same plan for your job and your card, `--check --vram 24` for another card.

Each cell is for a LoRA of rank 16 on every layer of the blocks, one image per batch, bf16, gradient checkpointing and
`adamw8bit`, with samples of the training size. It gives the peak on the card and the settings that make the job fit at
the least cost in quality and speed. GB are 2^30 bytes, as card makers count, here and in every message of the trainer.
97.5 % of a card's memory is assumed to be usable, of which the driver takes 0.7 GB. `-`: no settings make it fit.
Reference images need additional memory.

| in a cell | in the `model` section |
|---|---|
| qfloat8, qint4 | `quantize: true`, `qtype: qfloat8` or `qint4`; the text encoder is then quantized, too |
| te qfloat8, te qint4 | `quantize_te: true`, `qtype_te: qfloat8` or `qint4` |
| stream 0.6 | `layer_offloading: true`, `layer_offloading_transformer_percent: 0.6` |
| activations | `activation_offloading: true` |
| low_vram | `low_vram: true` |

`memory: auto` instead of all of these lets the plan choose on the card at hand.
"""
# How a cell abbreviates each setting; those with an empty text are implied by another one.
_SHORT = {
    "model.quantize": "",
    "model.qtype": "{}",
    "model.quantize_te": "",
    "model.qtype_te": "te {}",
    "model.layer_offloading": "",
    "model.layer_offloading_transformer_percent": "stream {}",
    "model.activation_offloading": "activations",
    "model.low_vram": "low_vram",
}


def document() -> str:
    """The content of the document, with one table for all models of the same size."""
    models: dict[ModelSize, list[ModelCard]] = {}
    for card in find_cards().values():
        if card.size is not None and card.num_parameters > 1e9:
            models.setdefault(card.size, []).append(card)
    return _INTRODUCTION + "".join(line for size, cards in models.items() for line in _section(size, cards))


def _section(size: ModelSize, cards: list[ModelCard]) -> Iterator[str]:
    yield f"\n## {' and '.join(card.label for card in cards)}\n\n"
    yield " or ".join(f"`arch: {card.arch}`" for card in cards) + "\n\n"
    columns = ("card", *(f"{size_px} x {size_px}" for size_px in SIZES_PX))
    rows = ((f"{size_gb} GB", *(_cell(size, size_px, size_gb) for size_px in SIZES_PX)) for size_gb in CARDS_GB)
    yield from (f"{line}\n" for line in table(columns, rows))


def _cell(size: ModelSize, size_px: int, size_gb: int) -> str:
    px = size_px**2
    work = Workload(train_px=px, encode_px=px, sample_px=px, decode_px=px)
    inputs = PlanInputs(size, work, "cuda", optimizer="adamw8bit", backwards=("own",))
    ways = ways_to_fit(inputs, named_card(size_gb), frozen_weight_changes(inputs), most=1)
    if not ways:
        return "-"
    settings = [_SHORT[key].format(value) for key, value in ways[0].keys.items() if _SHORT[key]]
    return f"{gigabytes(ways[0].plan.peak_gpu_bytes)} GB" + (f": {', '.join(settings)}" if settings else "")


def main(arguments: list[str] | None = None) -> int:
    """Write the document, or check it. Returns the exit code: 1 if a check found it stale."""
    script = "scripts/write_vram_docs.py"
    return write_or_check(REPOSITORY, {DOCUMENT: document()}, arguments, script=script, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
