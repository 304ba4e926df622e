"""Writes docs/performance.md from benchmarks/results/*.json; --check only says if it is stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts.generated import write_or_check  # noqa: E402
from scripts.markdown_table import table  # noqa: E402

DOCUMENT = Path("docs/performance.md")
RESULTS = tuple(Path(f"benchmarks/results/{name}.json") for name in ("lean", "growth", "compiled", "startup"))
_INTRODUCTION = """\
# How fast a step is

Written by `python scripts/write_performance_docs.py`; do not edit. Times and memory are **measured** on a CPU by
`make bench`, counts are **counted** in the same run; the blocks' own backward pass has not been measured on a card.

## What a block does in training

A frozen block with a LoRA needs no gradient of its own weights. The blocks of FLUX.2 and FLUX.1 therefore have a
backward pass of their own (`extensions_built_in/diffusion_models/lean/`), which keeps only what that needs. Gradients
are those of autograd: within 1e-5 in fp32; in bf16 as far from exact ones as autograd's are. The forward pass differs
by rounding only: 4e-8 in fp32, 1e-3 in bf16. A pass without gradient, such as sampling, is diffusers' own.

A CPU without products in bf16 (no AVX-512, such as AVX2 alone) multiplies bf16 number by number. There, the products
of frozen layers and, in training, the attention of these blocks are computed in fp32; what is kept for backward stays
bf16.

| `train.gradient_checkpointing` | a single block of FLUX.2 keeps, per token | a double block | recomputed |
|---|---|---|---|
| `false` | 11 h: input, attention's output, q, k, v, gate, up | 12 h | norms and activations |
| `true` | 2 h: input, attention's output | 3 h | that, and the projections to q, k, v, gate and up |
| `true`, on a full card | h: input | h | the whole block |
| `true`, with `model.activation_offloading` | nothing on the card; the input, h, in RAM | likewise | the whole block |

h is one number per channel of the hidden size. diffusers with peft keeps 25 h, or 1 h if it recomputes whole blocks.

FLUX.1's blocks make their modulation themselves, and a LoRA on that layer needs what attention and MLP add, before the
gate. A single block keeps 10 h, or 3 h if it recomputes; a double block 12 h, or 5 h. Without a LoRA on those layers
(`network_kwargs: only_if_contains: [attn]`) it is 9 h or 2 h, and 10 h or 3 h. Its q, k and v have an A each: they are
multiplied as one. With autograd's backward pass it is 26 h and 31 h, or 1 h if whole blocks are recomputed.

With `true`, the memory plan lets blocks recompute as little as fits in 85 % of the card, down to nothing, block by
block; the check and the log say so. On a CPU it is the second row. What is recomputed changes no bit of the gradients.

The log says how many blocks have this backward pass. The others have autograd's, and are recomputed as a whole if
`gradient_checkpointing` is on: blocks that an adapter or an assistant LoRA changes; networks other than LoRA; LoRA with
dropout; networks on the layers outside blocks that make modulations; weights that are trained themselves; klein 9B KV;
sharded weights.
"""
_TABLE = """
## Beside other steps

{machine}, torch {torch}, one thread, random weights (`tiny`: the model of the demo), rank 16 on every layer of the
blocks, batch 1, 256 tokens of image and 512 of text (`tiny`: 64 and 48). s/step is the median CPU time of a
step; a ratio is the median over pairs of alternating steps. Memory is the peak of a process that loads the libraries,
makes the model and takes two steps.

- `ours`: the step of a job; `ours int8`: with `model.compute: int8`; `ours compiled`: with `model.compile: true`.
- `plain`: a loop of diffusers and peft on the same weights, with diffusers' checkpointing where blocks are recomputed;
  `plain compiled`: with its blocks compiled as diffusers does it.
- `musubi-tuner`: that program's own model, LoRA and checkpointing on the same weights. It is measured if the
  environment variable `MUSUBI_TUNER` names a checkout of it.

Rows say what the weights are stored in. Jobs default to bf16; on a CPU without products in bf16 the larger models are
measured in fp32, because a plain step in bf16 takes minutes there. So most of the ratio of `tiny` in bf16 is the plain
loop's products. `make bench` leaves the rows that it does not measure as they are: those with products in bf16 are
from another processor.

"""
_ERROR = """
## How exact it is

Relative error (L2) of the loss, and of the gradient of each A and B of the LoRA, against the plain loop in fp32 with
the same weights.

"""
_COUNTS = """
## Counts

They are the same on every machine, but for the casts of ours on a CPU without products in bf16. Products over the
floor: floating point operations of a pass over 4 per weight of the blocks and token, plus LoRA, attention and what is
outside blocks. Operators: those that compute something, of a whole pass forward and backward. Kept: residual streams
(h per token) that a block keeps for backward, on average.

"""

_COMPILED = """
## With torch's compiler

`model.compile: true` lets torch's compiler make one program of each group of small operations in these blocks: norm and
modulation, the norm and rotation of queries and keys, the gate of the MLP, each forward and backward. Products and
attention stay as they are, so it goes with quantized and streamed weights, and all sizes of image share the programs.
It is there for GPUs, where each fused operation saves a launch and a pass over memory; that has **not been
measured**. On a CPU it is no faster: {machine}, torch {torch}, {dtype}, one thread, a job's step with and without in
turns (`python -m benchmarks.compiled`). The first pass of the first row has nothing kept from an earlier start; that of
the second finds most of its programs. Errors are those of the gradients (L2, median) against fp32.

"""
_GROWTH = """
## How it grows

{machine}, torch {torch}, {dtype}, one thread: the model `small`, kept, a job's step (`python -m benchmarks.growth`).
Each row changes one thing of the first; all take a step in turns, and the ratio is the median over turns. Growing with
the tokens alone would be the ratio in the third column; attention grows with their square. How reading data grows with
the number of images is in `benchmarks/results/data_speed.json`.

"""
_STARTUP = """
## Where the time of a start goes

CPU time of `run.py` until the first step, for a job with the model of the demo whose captions and images are
cached, {machine}, torch {torch}: median of five starts (spread {spread_s} s). With empty caches it is {cold_s} s.
transformers, peft, accelerate and torch's compiler are loaded when one of their names is first used, which is never
in such a run.

"""


def document(
    results: Mapping[str, Any], growth: Mapping[str, Any], compiled: Mapping[str, Any], startup: Mapping[str, Any]
) -> str:
    """The content of the document."""
    rows = sorted(results["rows"].items(), key=lambda item: _ORDER.index(item[0].split()[0]))
    title = _TABLE.format(**{key: results[key] for key in ("machine", "torch")})
    return "".join(
        (
            _INTRODUCTION,
            title,
            _text(_SPEEDS, _speeds(rows)),
            _ERROR,
            _text(_ERRORS, _errors(rows)),
            _COUNTS,
            _text(_COUNTED, _counts(rows)),
            _GROWTH.format(**growth),
            _text(_GROWN, _grown(growth["cells"])),
            _COMPILED.format(**{key: compiled[key] for key in ("machine", "torch", "dtype")}),
            _text(_PROGRAMS, _programs(compiled["rows"])),
            _STARTUP.format(**startup),
            _text(("part", "s"), startup["parts_s"].items()),
        ),
    )


def _text(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    return "".join(f"{line}\n" for line in table(columns, rows))


_ORDER = ("tiny", "small", "mid")
_SPEEDS = (
    "model",
    "blocks",
    "weights",
    "bf16 products",
    "step",
    "s/step",
    "faster than plain",
    "faster than ours",
    "memory",
    "of plain's",
)
Rows = Sequence[tuple[str, Mapping[str, Any]]]


def _speeds(rows: Rows) -> Iterator[tuple[object, ...]]:
    for name, row in rows:
        has = "yes" if row["bf16_products"] else "no"
        plain = row["steps"].get("plain", {}).get("bytes")
        for arm, found in row["steps"].items():
            faster = (_times(found["times_faster_than"].get(other)) for other in ("plain", "ours"))
            memory = _mib(found["bytes"]) if "bytes" in found else "-"
            share = f"{found['bytes'] / plain:.2f}" if plain and "bytes" in found and arm != "plain" else "-"
            yield (*name.split(), has, arm, found["s"], *faster, memory, share)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


_ERRORS = ("model", "blocks", "weights", "step", "loss", "gradients, median", "gradients, largest")


def _errors(rows: Rows) -> Iterator[tuple[object, ...]]:
    for name, row in rows:
        for arm, found in row["steps"].items():
            errors = (f"{found['parity'][key]:.1e}" for key in ("loss", "gradient_median", "gradient_largest"))
            yield (*name.split(), arm, *errors)


_COUNTED = ("model", "blocks", "weights", "step", "products over the floor", "operators", "kept")


def _counts(rows: Rows) -> Iterator[tuple[object, ...]]:
    for name, row in rows:
        for arm, found in row["steps"].items():
            if "counts" in found:
                counts = found["counts"]
                figures = (counts[key] for key in ("flops_over_floor", "operators", "kept_streams_per_block"))
                yield (*name.split(), arm, *figures)


_GROWN = ("step", "tokens", "tokens, of the first", "s/step", "of the first")


def _grown(cells: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    base = next(iter(cells.values()))["tokens"]
    for name, cell in cells.items():
        yield (name, cell["tokens"], f"{cell['tokens'] / base:.2f}", cell["s"], f"{cell['times_base']:.2f}")


_PROGRAMS = (
    "model",
    "blocks",
    "compiled, s/step",
    "not",
    "faster",
    "first pass, s",
    "programs",
    "more for 3 other sizes",
    "error, compiled",
    "not",
)


def _programs(rows: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, row in rows.items():
        times = (row["compiled_s"], row["plain_s"], f"{row['speedup']:.2f} x", row["first_step_s"])
        errors = (f"{row[f'{arm}_parity']['gradient_median']:.1e}" for arm in ("compiled", "plain"))
        yield (*name.split(), *times, row["programs"], row["programs_of_other_sizes"], *errors)


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MiB"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    texts = {DOCUMENT: document(*(json.loads((REPOSITORY / path).read_text(encoding="utf-8")) for path in RESULTS))}
    script = "scripts/write_performance_docs.py"
    return write_or_check(REPOSITORY, texts, arguments, script=script, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
