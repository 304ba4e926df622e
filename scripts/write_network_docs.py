"""Writes docs/networks.md from rows and measured figures; --check only reports whether it is stale."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.quality_real import GOAL  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402
from scripts.markdown_table import table  # noqa: E402
from scripts.quality_figures import figures  # noqa: E402
from scripts.quality_tables import network_table, pair_verdicts  # noqa: E402
from toolkit.cards import find_cards  # noqa: E402
from toolkit.config import NetworkConfig  # noqa: E402
from toolkit.networks.choices import NETWORKS, REFUSED_NETWORKS  # noqa: E402
from toolkit.networks.settings import Shape  # noqa: E402

DOCUMENT = Path("docs/networks.md")
STEPS = REPOSITORY / "benchmarks/results/network_steps.json"
MODELS = ("flux2_klein_4b", "flux2_klein_9b", "flux2")
SETTINGS = {
    "lora": {"linear": 16},
    "lokr": {},
    "fullrank": {},
    "loha": {"linear": 8},
    "dora": {"linear": 16},
    "oft": {"linear": 32},
}
# Which programs draw with the file, tried in tests/toolkit/networks by the programs or by their rules.
READERS = {
    "lora": "diffusers, ComfyUI, ai-toolkit, musubi-tuner",
    "lokr": "ComfyUI, diffusers from 0.42 (as `bfl`), ai-toolkit",
    "fullrank": "ComfyUI",
    "loha": "ComfyUI",
    "dora": "ComfyUI (diffusers would ignore the norms)",
    "oft": "ComfyUI",
}
# huggingface/peft, method_comparison/image-gen at 5d602fd: klein base 4B, 750 steps at 1e-4.
PUBLISHED = (
    ("LoRA, rank 64", 0.743, 0.288, 307),
    ("OFT", 0.708, 0.262, 19),
    ("LoRA, rank 32", 0.697, 0.262, 153),
    ("LoKr, at 1e-3", 0.697, 0.268, 3),
    ("DoRA, rank 64", 0.668, 0.275, 310),
    ("LoHa", 0.662, "0.260", 307),
)
_INTRODUCTION = """\
# Kinds of network

Written by `python scripts/write_network_docs.py`; do not edit. `network.type` names the kind:

"""
_RULES = """
Every kind trains on a quantized or offloaded model, with gradient checkpointing, accumulation and a moving average, and
resumes bit for bit. Its weights are fp32. Layers that the released model fuses (q, k and v) get one change of the fused
weight, so a file has the same shape and meaning in every program. Scales are folded into the weights of a file. Every
file is read back and compared before it replaces the old one.

## Settings

- `network.patterns` gives some of the layers another rank, alpha, learning rate or kind:
  `patterns: [{contains: img_attn, linear: 32, lr: 2e-4}, {contains: mlp, type: lokr}]`. The first that matches applies.
- `network_kwargs.full_if_contains` trains the layers that it names in full.
- `rs_lora` scales by alpha / sqrt(rank), so that high ranks learn as fast as low ones. `loraplus_lr_ratio` gives B a
  higher learning rate than A (LoRA+).
- `dropout` drops inner activations, `network_kwargs.rank_dropout` ranks of a sample, `network_kwargs.module_dropout`
  whole layers for a pass. The draws are counted: a resumed run draws the same.
- LoKr: `lokr_factor: -1` has the fewest weights, 4 to 16 has more. `lokr_full_rank: false` makes the larger matrix a
  product of rank `linear`. `old_lokr_format` writes the names of older versions of ai-toolkit.
- DoRA trains a norm for each column, as in its paper. peft has one for each row, which ComfyUI divides by the wrong
  norm. It cannot be combined with an adapter.
- OFT rotates outputs in blocks of at most `linear`. For programs that do not read OFT, write it as a LoRA:
  `python -m toolkit.lora resize FILE --base MODEL --rank 32 --output NEW_FILE`.
- `fullrank` trains as many weights as the layers have: for a few layers.
- What each kind keeps for its backward pass more than a LoRA is in the memory plan: with recomputed blocks, klein 4B's
  step at 1024 pixels needs 15 % more activations with LoKr or OFT, 38 % more with DoRA.
- The check lists the learning rates where patterns or LoRA+ give some weights another one; each step's event and
  TensorBoard have them as `lr x4` and so on.

Which blocks matter is measured, not known: `python -m toolkit.lora blocks JOB_OR_RUN FILE` shows how much the loss
changes when the part of one block is switched off, on fixed images, noise levels and noise. See [LoRA files](lora.md).

## Not built
"""

_REAL = """\
## On the real model

`python -m benchmarks.quality --real --model KLEIN --encoder DINOV2 --images FOLDER --out FILE` runs peft's public image
benchmark on FLUX.2 [klein] base 4B, if the weights, DINOv2 and the 20 pictures are in local folders, with the same
division of the data, prompts, steps and scores, with prompts encoded from the layers that klein's pipeline reads. It
has not been run on the real model. The goal is a similarity of at least {similarity} at a drift of at most {drift}, as
the mean of three seeds: the best published similarity, a LoRA's of rank 64, at the drift of OFT.

What peft has published of one seed each, in which differences below 0.05 say little:
"""

_WHICH = """
What that says, at these learning rates and no further:

- A **LoRA** is the safe choice: nothing was shown to learn more than one of rank 32, and nothing to keep more. At one
  learning rate, its rank decides how fast it learns: rank 4 learned a quarter of what rank 32 did.
- **LoKr** is for small files: it learned more than a LoRA of rank 4 that is more than four times its size. With
  `lokr_factor: 4` it was not told apart from a LoRA of rank 16.
- **DoRA** was not told apart from a LoRA of the same rank.
- **LoHa**, **OFT** and **fullrank** kept less than a LoRA of rank 16 and were not shown to learn more. Other learning
  rates may change that: each kind was measured at one.
"""


def main(arguments: list[str] | None = None) -> int:
    """Write or check the document."""
    texts = {DOCUMENT: document()}
    return write_or_check(REPOSITORY, texts, arguments, script="scripts/write_network_docs.py", description=__doc__)


def document() -> str:
    """The content of docs/networks.md."""
    kinds = ((f"`{name}`", row.summary, READERS[name]) for name, row in NETWORKS.items())
    lines = [_INTRODUCTION.rstrip("\n"), "", *table(("`type`", "what it is", "read by"), kinds)]
    lines += [_RULES]
    lines += [f"- `{name}`: {reason}." for name, reason in REFUSED_NETWORKS.items()]
    lines += ["", "## Sizes", "", "Millions of weights on every layer of the blocks, and megabytes of a bf16 file.", ""]
    cards = [find_cards()[arch] for arch in MODELS]
    lines += table(("network", *(card.label for card in cards)), _sizes())
    lines += ["", _REAL.format(**GOAL), *table(("network", "similarity", "drift", "file, MB"), PUBLISHED)]
    if measured := network_table(figures()):
        lines += ["", "## Measured", ""]
        lines += [
            "What each kind learns and keeps on the tiny FLUX.2; [quality](quality.md) says how it was measured.",
            "",
        ]
        lines += [
            *measured,
            "",
            "Among the smaller ones:",
            "",
            *pair_verdicts(figures(), group="networks"),
            _WHICH.rstrip("\n"),
        ]
    lines += ["", "## What a step costs", "", *_step_costs()]
    return "\n".join(lines) + "\n"


def _step_costs() -> Iterator[str]:
    """What `benchmarks.network_steps` has measured."""
    found = json.loads(STEPS.read_text(encoding="utf-8"))
    for size, kinds in found["sizes"].items():
        costs = ", ".join(
            f"{kind} {row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"
            for kind, row in kinds.items()
        )
        text = (
            f"A whole step on the random model `{size}`, in multiples of that of a LoRA of rank 16: {costs}. "
            f"Median and range of the processor times of pairs of steps in turns, {found['machine']}, "
            f"{found['dtype']}, one thread, blocks {found['blocks']} (`python -m benchmarks.network_steps`)."
        )
        yield from textwrap.wrap(text, width=120)


def _sizes() -> Iterator[list[str]]:
    """The rows of the table of sizes."""
    for kind, settings in SETTINGS.items():
        config = NetworkConfig.model_validate({"type": kind, **settings})
        cells = []
        for arch in MODELS:
            size = find_cards()[arch].size
            assert size is not None
            linears = [linear for block in size.transformer.blocks for linear in block.linears * block.count]
            count = sum(NETWORKS[kind].count(Shape(*linear), config.at(None)[1]) for linear in linears)
            cells.append(f"{count / 1e6:,.1f}, {2 * count / 1e6:,.0f} MB")
        yield [config.describe(), *cells]


if __name__ == "__main__":
    sys.exit(main())
