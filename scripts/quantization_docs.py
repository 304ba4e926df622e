"""Generates docs/quantization.md from the registry of number formats and the measurements."""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.quantize.qtypes import QTYPES, Qtype

FIGURES = Path(__file__).parents[1] / "benchmarks" / "results" / "quantize.json"

TEXT = """# Quantized weights

Written by `python scripts/write_config_docs.py` from `toolkit/quantize/qtypes.py` and
`benchmarks/results/quantize.json`.

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
*Error*: relative error of normally distributed weights, and of the weights of the trained tiny model. *8-bit units*:
the GPUs whose matrix units could compute with the stored numbers directly. They are not used yet: the weights of a
layer are converted to `train.dtype` when they are needed, in forward and again in backward, and nothing in full
precision is kept in between. So every format works on any generation of GPU.

- All linear layers inside the blocks are quantized; if one of them cannot be, the run stops. Embedders, norms,
  modulation and the last layer keep their precision. LoRA weights stay fp32, and their gradients are those of the
  dequantized weights.
- Tensors are read, quantized and freed one by one: memory never has more than the quantized model and one tensor. With
  `low_vram: true` this happens on the CPU, and only quantized layers are moved to the GPU.
- The result is cached in `~/.cache/flux2-trainer/quantized` (or below `XDG_CACHE_HOME`; `model.quantize_cache` sets
  another folder), under a name derived from the model's files, the format and the layers. The next start reads it
  instead of the model; a damaged file is detected and made again. Path and size are printed; any file there may be
  deleted. `python run.py JOB --no-cache` or `quantize_cache: false` turns the cache off.
- `python -m toolkit.quantize.error_report MODEL` prints the error of every layer with every format, where MODEL is a
  safetensors file or a folder of them.
- ai-toolkit's `float8`, `int8` and `uint4` mean the formats of the same name here: the same bits, but other rounding.
"""


def quantization_docs() -> str:
    """The text of docs/quantization.md."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    rows = [_row(name, qtype, figures) for name, qtype in QTYPES.items()]
    head = ["qtype", "by", "a weight is one of", "bits", "error", "tiny model", "8-bit units"]
    table = "".join("| " + " | ".join(line) + " |\n" for line in [head, ["---"] * len(head), *rows])
    return TEXT.format(table=table)


def _row(name: str, qtype: Qtype, figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    errors = figures["formats"][name]
    return [
        f"`{name}`",
        qtype.source,
        qtype.summary,
        f"{qtype.bits_per_weight:g}",
        f"{errors['error_gaussian']:.1%}",
        f"{errors['error_tiny_model']:.1%}",
        qtype.computes_in_8_bit or "",
    ]
