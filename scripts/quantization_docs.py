"""Generates docs/quantization.md from the registry of number formats and the measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolkit.compute.choices import COMPUTES
from toolkit.quantize.qtypes import QTYPES, Qtype

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

INT8, ROTATED = "int8 of int8", "int8 of convrot8"

TEXT = """# Quantized weights

Written by `python scripts/write_config_docs.py` from `toolkit/quantize/qtypes.py`, `toolkit/compute/choices.py`, and
`quantize.json` and `compute.json` in `benchmarks/results`.

Training a LoRA does not change the model, so the model can be stored in fewer bits:

```yaml
model:
  name_or_path: black-forest-labs/FLUX.2-klein-base-9B
  arch: flux2_klein_9b
  quantize: true
  qtype: int8           # of the transformer
  quantize_te: true
  qtype_te: nf4         # of the text encoder
```

{table}
*Error*: relative error of normally distributed weights, and of the weights of the trained tiny model. *compute*: what
can multiply the stored numbers, see below. Without it, the weights of a layer are converted to `train.dtype` when they
are needed, in forward and again in backward, and nothing in full precision is kept in between. So every format works on
any generation of GPU.

- All linear layers inside the blocks are quantized; if one of them cannot be, the run stops. Embedders, norms,
  modulation and the last layer keep their precision. LoRA weights stay fp32, and their gradients are those of the
  dequantized weights, up to the rounding of `compute`.
- Tensors are read, quantized and freed one by one: memory never has more than the quantized model and one tensor. With
  `low_vram: true` this happens on the CPU, and only quantized layers are moved to the GPU.
- The result is cached in `~/.cache/flux2-trainer/quantized` (or below `XDG_CACHE_HOME`; `model.quantize_cache` sets
  another folder), under a name derived from the model's files, the format and the layers. The next start reads it
  instead of the model; a damaged file is detected and made again. Path and size are printed; any file there may be
  deleted. `python run.py JOB --no-cache` or `quantize_cache: false` turns the cache off.
- In the file each block is one piece, and the pieces lie in the order of the forward pass, so a later start only maps
  and copies: to the GPU a block at a time; blocks that stream from RAM once, into memory that the GPU can read. On a
  CPU the weights are a map of the file: jobs share them, and the system counts them as its cache of files. Checksums
  are compared when a file has changed since it was last found whole. Loading int8 weights of 451 MB takes 0.12 s of
  CPU time (0.69 s in the layout of earlier versions, whose files are read and rewritten) and 3 MB of the
  process's own memory (`python -m benchmarks.quantize --only start --double 1 --single 3 --qtypes int8`). Do not write
  into a file that a job uses.
- `python -m toolkit.quantize.error_report MODEL` prints the error of every layer with every format, where MODEL is a
  safetensors file or a folder of them.
- ai-toolkit's `float8`, `int8` and `uint4` mean the formats of the same name here: the same bits, but other rounding.

## Multiplying in 8 bits

`model.compute` says in what the frozen weights of the transformer are multiplied, in training and in samples:

{computes}
Both directions of a training step are then in 8 bits: the product with a layer's input, and in backward the product
that gives the gradient of that input. The weight is used as it is stored. Inputs are rounded with a scale for each
token; gradients are first multiplied with the scales of the weight's rows, then rounded in the same way. What is
trained is computed exactly, as without it.

- `int8` and `fp8` need `quantize: true` and a `qtype` of the table. `auto` takes the one that goes with how weights are
  stored, if the machine can; it says in one line what it chose and why. What a machine cannot do is an error.
- On random weights, also with rows that are 20 times larger, the gradient of every adapter has a cosine of at least
  0.99 with that in fp32 (0.998 in int8, 0.993 in fp8). A product of normal factors, with the rounding of its weight,
  has a signal-to-noise ratio of {sqnr} dB in int8.
- {speed}
- Large *channels* of a layer's input cost the other channels of their token precision. `qtype: convrot8` with
  `compute: int8` rotates weights and inputs in blocks of up to 256, which spreads such channels, at the cost of a small
  product for each input.
- Streaming and `train.sharding` change no bit of it, gradient checkpointing neither. Networks and adapters change what
  goes into a layer and what comes out of it, whatever multiplies in between. With a model that is split over GPUs it
  has not been tried. A full fine-tune has no frozen weights, so it is refused there.
- On NVIDIA cards, products in int8 use a kernel in Triton that multiplies with the scales before anything is written.
  It is compared with its plain twin by Triton's interpreter, and has not been measured on a card.
"""


def quantization_docs() -> str:
    """The text of docs/quantization.md."""
    figures = json.loads((RESULTS / "quantize.json").read_text(encoding="utf-8"))
    rows = [_row(name, qtype, figures) for name, qtype in QTYPES.items()]
    head = ["qtype", "by", "a weight is one of", "bits", "error", "tiny model", "compute"]
    table = "".join("| " + " | ".join(line) + " |\n" for line in [head, ["---"] * len(head), *rows])
    measured = json.loads((RESULTS / "compute.json").read_text(encoding="utf-8"))
    return TEXT.format(table=table, computes=_computes(), sqnr=_sqnr(measured), speed=_speed(measured))


def _sqnr(measured: dict[str, Any]) -> str:
    """The lowest and the highest of both directions of all products in int8."""
    found = [value for cell in measured["cells"].values() for value in cell[INT8]["sqnr_db"]]
    return f"{min(found):.0f} to {max(found):.0f}"


def _speed(measured: dict[str, Any]) -> str:
    faster = measured["times_faster_in_all"]
    return (
        f"Measured on a {measured['device'].upper()} with instructions for 8-bit integers, one thread, hidden size "
        f"{measured['hidden']}, {measured['tokens']} tokens:\n  all frozen products of a step, both directions, are "
        f"{faster[INT8]:.2f} times faster than plain bf16 ({faster[ROTATED]:.2f} of `convrot8`,\n  "
        f"{faster['int8 dequantized']:.2f} where int8 is dequantized). `python -m benchmarks.compute` measures it."
    )


def _computes() -> str:
    rows = [
        [f"`{name}`", row.summary, ", ".join(f"`{qtype}`" for qtype in row.products) or "any", row.needs]
        for name, row in COMPUTES.items()
    ]
    head = ["compute", "factors", "qtype", "needs"]
    return "".join("| " + " | ".join(line) + " |\n" for line in [head, ["---"] * len(head), *rows])


def _row(name: str, qtype: Qtype, figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    errors = figures["formats"][name]
    return [
        f"`{name}`",
        qtype.source,
        qtype.summary,
        f"{qtype.bits_per_weight:g}",
        f"{errors['error_gaussian']:.1%}",
        f"{errors['error_tiny_model']:.1%}",
        ", ".join(f"`{compute}`" for compute, row in COMPUTES.items() if name in row.products),
    ]
