"""Writes docs/optimizers.md from the rows of the optimizers; --check only reports whether it is stale."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts.generated import write_or_check  # noqa: E402
from scripts.markdown_table import table  # noqa: E402
from scripts.quality_figures import figures  # noqa: E402
from scripts.quality_tables import OPTIMIZER_RULE, optimizer_table, pair_verdicts  # noqa: E402
from toolkit.optimizers.choices import OPTIMIZERS  # noqa: E402
from toolkit.optimizers.row import OptimizerChoice  # noqa: E402

DOCUMENT = Path("docs/optimizers.md")
_INTRODUCTION = """\
# Optimizers

Written by `python scripts/write_optimizer_docs.py`; do not edit. `train.optimizer` names the kind.

- **Begin with `adamw`** at `lr: 1e-4`, or with `adamw8bit` where memory is short.
- **`prodigy`** with `lr: 1` finds the step size: for a LoRA whose learning rate you do not want to search.
- **`schedulefree_adamw`** when you do not know how long you will train: every checkpoint is an average of the run.
- **`adafactor`** when a full fine-tune does not fit with `adamw8bit`.

`bytes` is the state per trained weight; where it depends on the shape, that of a rank-16 LoRA. `lr` is a rate to begin
with. 8-bit kinds are ours and run on any device: blocks of 256 values share a scale.

"""
_WHICH = """
What that says, for a small LoRA and a short run:

- **adamw8bit** had the scores of **adamw** with every seed, in a quarter of the state; **adafactor** was not told apart
  from it, in 2 % of the state. Take one of the two where memory is short.
- **prodigy** found a rate at which it learned; it was not told apart from AdamW at 5e-3.
- **automagic** at AdamW's rate and **came** at a seventeenth of it were not told apart from AdamW either.
- **schedulefree_adamw** learned more in these steps than AdamW with a cosine. It was not told apart from AdamW at a
  constant rate, which ruined the model with one seed of five.
- **lion** at a fifth of AdamW's rate learned less in these steps. A higher rate was not tried.
- **muon** at AdamW's rate learned less too, in twice the processor time. At twice that rate it learned more and kept
  less (one seed).
"""
_RULES = """
## What works with what

Every kind trains any network, adapter and full fine-tune in fp32, clips, accumulates, follows a schedule, resumes
bit for bit after a kill, and trains the same on several processes that each hold all weights.

- *in bf16, fused*: `full_finetune_weights: bf16_split` and `bf16_stochastic`, and `fused_backward_pass`, update one
  weight at a time. Kinds that look at all weights together cannot do that, and say so.
- *sharded*: `sharding: full` gives each process some rows of every weight. Kinds that need whole weights say so.
- `ema_config` works with every kind that does not keep an average itself.
- `model.split_model_over_gpus`: not with the D-Adaptation kinds and `prodigy_schedule_free`.

## Learning rates

- Kinds with `lr` 1 find the step size and multiply it by `lr`. An Adam rate such as 1e-4 is an error there
  (ai-toolkit would turn it into 1 without a word), and so is a rate of 1 with a kind that does not find its own.
- They have one step size for all weights: `network.loraplus_lr_ratio` and `network.patterns[].lr` are errors with
  them.
- `prodigy` likes `lr_scheduler: cosine`; the schedule-free kinds like `constant` or `constant_with_warmup`.
- `automagic` starts at `lr` and changes the rate of each tensor by up to 10 % a step, up if the signs of its updates
  agree with the last ones, down if they do not. A short run that starts low has no time to reach a rate that learns: on
  the tiny FLUX.2, a tenth of AdamW's rate had learned nothing in 60 steps (one seed). ai-toolkit's `automagic`,
  `automagic2` and `automagic3` are three programs, the last two of which pass clipping and accumulation by; all three
  names mean this one here.
- `came` divides its steps by how much updates vary, which makes them large where they are steady: on the tiny FLUX.2, a
  fifth of AdamW's rate ruined the model (one seed), and a seventeenth learns well.
- `adafactor` runs at `lr`: no relative step, and no scaling by the size of a weight unless `scale_parameter` is
  set.

## Weight decay by pattern

`optimizer_params: {weight_decay: 0.01, no_decay_if_contains: [bias, norm]}` leaves out the weights whose name
contains one of the strings. A string that is part of no name is an error.

## Schedule-free kinds

Gradients are taken at one set of weights, and users get another, their average. Samples and the weights of a
checkpoint are the average; the state of a checkpoint holds the others, so that training goes on bit for bit.

## Libraries

"""
_OWN = """
## A class of your own

`optimizer: package.Class` takes any `torch.optim.Optimizer` that Python can import, from a library or a file of
yours in `extensions/`; `optimizer_params` are what its constructor takes beside the weights and `lr`. Before a run
relies on it, it is tried on a small problem: it must learn at the job's `lr`, its state must be storable
as tensors, numbers, texts and lists, and a run that is saved and resumed must end bit for bit as one that is not.
Its state is counted as 16 bytes per weight. `fused_backward_pass`, bf16 weights and `sharding` are refused with it.

Of the D-Adaptation family, Adan and SGD are not here: both diverged in the test that every kind has to pass.

## Settings
"""


def main(arguments: list[str] | None = None) -> int:
    """Write or check the document."""
    texts = {DOCUMENT: document()}
    return write_or_check(REPOSITORY, texts, arguments, script="scripts/write_optimizer_docs.py", description=__doc__)


def document() -> str:
    """The content of docs/optimizers.md."""
    cells = [
        (f"`{name}`", f"{row.state_bytes:.3g}", row.lr, row.takes, _mark(row.is_single), _mark(row.is_shardable))
        for name, row in _kinds()
    ]
    columns = ("`optimizer`", "bytes", "`lr`", "for", "in bf16, fused", "sharded")
    lines = [_INTRODUCTION.rstrip("\n"), "", *table(columns, cells)]
    lines += ["", "## What each is", ""]
    lines += [f"- `{name}`: {row.summary}{_spellings(row)}" for name, row in _kinds()]
    lines += [*_figures(), _RULES.rstrip("\n"), ""]
    libraries = sorted({row.library for _, row in _kinds() if row.library})
    lines.append("`pip install -r requirements-optimizers.txt` installs what these kinds come from:")
    lines.append("")
    for library in libraries:
        lines.append(f"- {library}: {', '.join(f'`{name}`' for name, row in _kinds() if row.library == library)}")
    lines += [_OWN.rstrip("\n"), "", *_settings()]
    return "\n".join(lines) + "\n"


def _kinds() -> list[tuple[str, OptimizerChoice]]:
    return [(name, row) for name, row in OPTIMIZERS.items() if not row.notice]


def _mark(can: bool) -> str:
    return "yes" if can else "-"


def _spellings(row: OptimizerChoice) -> str:
    others = ", ".join(f"`{other}`" for other in row.spellings)
    return f" Also written {others}." if others else ""


def _settings() -> Iterator[str]:
    """The keys of each kind; docs/config.md says what they mean."""
    for name, row in _kinds():
        assert row.params is not None
        yield f"- `{name}`: {', '.join(f'`{key}`' for key in row.params.model_fields)}"


def _figures() -> Iterator[str]:
    """What the quality table has measured of each kind, if it has."""
    if measured := optimizer_table(figures()):
        yield from ("", "## Measured", "")
        yield "What each learns and keeps on the tiny FLUX.2; [quality](quality.md) says how it was measured."
        yield from (*textwrap.wrap(OPTIMIZER_RULE, 120), "", *measured)
        if pairs := list(pair_verdicts(figures(), group="optimizers")):
            yield from ("", "At the same schedule:", "", *pairs)
        yield _WHICH.rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
