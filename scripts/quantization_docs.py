"""docs/quantization.md, made from the registry of number formats and the measurements."""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.quantize.qtypes import QTYPES, Qtype

FIGURES = Path(__file__).parents[1] / "benchmarks" / "results" / "quantize.json"

TEXT = """# Quantized weights

Written by `python scripts/write_config_docs.py` from `toolkit/quantize/qtypes.py` and
`benchmarks/results/quantize.json`.

A LoRA does not change the model, so the model can be held in fewer bits:

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
*Error*: relative error of normally distributed weights, and of those of the trained tiny model. *8-bit units*: the GPUs
whose matrix units could take the stored numbers as they are. They are not used yet: the weights of a layer are brought
to `train.dtype` when it is their turn, in forward and again in backward, and nothing in full precision is kept between
the two. So no format needs a GPU of a certain generation.

- The linear layers inside the blocks are quantized, all of them or the run stops. Embedders, norms, modulation and the
  last layer keep their precision. LoRA weights stay fp32, and their gradients are those of the dequantized weights.
- Tensors are read, quantized and freed one by one: memory holds the quantized model and one tensor. With
  `low_vram: true` that happens on the CPU, and only quantized layers come to the GPU.
- The result is kept in `~/.cache/flux2-trainer/quantized` (or below `XDG_CACHE_HOME`; `model.quantize_cache` names
  another folder), under a name made of the model's files, the format and the layers. The next start reads it instead of
  the model; a damaged file is noticed and made again. Path and size are printed; any file there may be deleted.
  `python run.py JOB --no-cache` or `quantize_cache: false` keeps and reads nothing.
- `python -m toolkit.quantize.error_report MODEL` prints the error of every layer with every format, where MODEL is a
  safetensors file or a folder of them.
- ai-toolkit's `float8`, `int8` and `uint4` are read as the formats of that name here: the same bits, other rounding.
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
        qtype.says,
        f"{qtype.bits_per_weight:g}",
        f"{errors['error_gaussian']:.1%}",
        f"{errors['error_tiny_model']:.1%}",
        qtype.computes_in_8_bit or "",
    ]
