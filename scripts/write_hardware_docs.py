"""Writes docs/hardware.md and the README's table of requirements; --check only reports whether they are stale."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jobs.cloud.gpus import GPUS, Gpu  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402
from scripts.markdown_table import table  # noqa: E402
from toolkit.cards import ModelCard, find_cards  # noqa: E402
from toolkit.plan.changes import Way, frozen_weight_changes, ways_to_fit  # noqa: E402
from toolkit.plan.machine import named_card  # noqa: E402
from toolkit.plan.phases.stored import quantized_bytes  # noqa: E402
from toolkit.plan.plan_inputs import PlanInputs, Workload  # noqa: E402
from toolkit.units import GB, gigabytes  # noqa: E402

DOCUMENT, README = Path("docs/hardware.md"), Path("README.md")
MEASURED = REPOSITORY / "benchmarks" / "results" / "step-h100.json"
SIDE_PX = 1024
REACHED = 0.7  # share of a card's published matrix speed that large products reach
PCIE_BYTES_S = 25e9  # PCIe 4.0 x16, as measured by others
MARKS = re.compile(r"(<!-- requirements -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Model:
    """A model whose steps have been measured.

    Attributes:
        arch: as in a job file.
        cell: start of its names in the measurements.
        encoder_parameters: weights of its text encoder as released, of which only a part is loaded.
    """

    arch: str
    cell: str
    encoder_parameters: float

    @property
    def card(self) -> ModelCard:
        """What is known about it."""
        return find_cards()[self.arch]


MODELS = (Model("flux2_klein_4b", "4b", 4.02e9), Model("flux2_klein_9b", "9b", 8.19e9), Model("flux2", "dev", 24.01e9))
H100 = next(gpu for gpu in GPUS if gpu.modal == "H100")
_INTRODUCTION = """\
# How long a training run takes

Written by `python scripts/write_hardware_docs.py`; do not edit. Times on the H100 are **measured**
(`benchmarks/results/step-h100.json`, torch 2.11, random weights). All others are **predicted** and have never been
measured: take them as a guide to what to rent, and correct them after the first hundred steps of your own run, which
prints its time per step. The H100 was measured when blocks were recomputed as a whole; they are not any more
(docs/performance.md), which is not in these times yet.

Prices change weekly and are not given: multiply the hours by what your provider asks today.

## Hours for 1000 steps

One LoRA step at 1024 x 1024: rank 16 on every layer of the blocks, batch 1, bf16, gradient checkpointing, `adamw8bit`.
Each cell has seconds per step, hours for 1000 steps, and the settings that docs/vram.md gives for the card's memory.
Loading, encoding and samples come on top: about half a minute for klein 4B on the H100. A few hundred to 2000 steps are
usual.

"""
_FORMULA = """
The prediction splits the time measured on the H100 into matrix products and the rest, and scales each by what the
makers publish:

```
products = operations / (0.7 * 989e12)                  operations: counted from the model's layers
rest     = measured - products                          limited by memory: norms, activations, unpacking weights
step     = products * 989 / TFLOPS + rest * 3350 / bandwidth
step     = max(step, 2 * streamed bytes / 25e9)         with layer_offloading: over PCIe 4.0, forward and backward
```

TFLOPS are dense, bf16, added up in fp32; bandwidth in GB/s (10^9). Cards of a laptop, and cards that get too hot, are
slower than their names.
"""


def document() -> str:
    """The content of the document."""
    head = "".join(f" {model.card.label} |" for model in MODELS)
    rows = "".join(f"| {gpu.label} | {gpu.memory_gb} GB |" + "".join(_cells(gpu)) + "\n" for gpu in GPUS)
    published = "".join(f"| {gpu.label} | {gpu.bf16_tflops:g} | {gpu.bandwidth_gb_s:g} |\n" for gpu in GPUS)
    return (
        f"{_INTRODUCTION}| card | memory |{head}\n|---|---|{'---|' * len(MODELS)}\n{rows}{_FORMULA}\n"
        f"| card | TFLOPS | GB/s |\n|---|---|---|\n{published}\n{_other_steps()}"
        f"\n## What a machine needs\n\n{requirements()}"
    )


def _cells(gpu: Gpu) -> Iterator[str]:
    for model in MODELS:
        way = _way(model, gpu.memory_gb)
        seconds = None if way is None else seconds_per_step(model, gpu, way)
        if seconds is None or way is None:
            yield " - |"
            continue
        mark = "**" if gpu == H100 else ""
        yield f" {mark}{seconds:.2g} s, {seconds / 3.6:.2g} h{mark}: {_settings(way)} |"


def seconds_per_step(model: Model, gpu: Gpu, way: Way) -> float | None:
    """Seconds for a step of a model on a card; None if the model has not been measured in this number format."""
    qtype = way.keys.get("model.qtype")
    name = f"{model.cell}-1024" + ({"qfloat8": "-fp8", "qint4": "-nf4"}[qtype] if qtype else "")
    cell = measurements().get(name)
    if cell is None:
        return None
    measured = cell["ours"]["s_per_step"]
    if gpu == H100:
        return float(measured)
    products = operations(model) / (REACHED * H100.bf16_tflops * 1e12)
    rest = measured - products
    computed = products * H100.bf16_tflops / gpu.bf16_tflops + rest * H100.bandwidth_gb_s / gpu.bandwidth_gb_s
    share = way.keys.get("model.layer_offloading_transformer_percent", 0)
    size = model.card.size
    assert size is not None
    bytes_each = {None: 2, "qfloat8": 1, "qint4": 0.53}[qtype]
    return float(max(computed, 2 * share * size.transformer.block_parameters * bytes_each / PCIE_BYTES_S))


def operations(model: Model) -> float:
    """Floating point operations of a LoRA step with gradient checkpointing: forward, again, and towards the inputs."""
    size = model.card.size
    assert size is not None
    transformer = size.transformer
    num_text = size.text_encoders[0].num_tokens
    num_tokens = SIDE_PX**2 // transformer.px_per_token + num_text
    products = attention = 0.0
    for block in transformer.blocks:
        # a block with two streams sends each token through half of its weights
        share = 1.0 if "single" in block.name else 0.5
        products += 2 * block.count * block.linear_parameters * share * num_tokens
        attention += 4 * block.count * num_tokens**2 * transformer.hidden_size
    return 3 * products + 4.5 * attention


@cache
def measurements() -> dict[str, Any]:
    """The measured steps by name."""
    cells: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))["cells"]
    return cells


def _other_steps() -> str:
    rows = [
        (cell["cell"], f"{cell['ours']['s_per_step']:.2f}", gigabytes(cell["ours"]["peak_reserved_bytes"]))
        for cell in measurements().values()
    ]
    lines = ["## All that was measured on the H100", "", *table(("step", "seconds", "GB"), rows)]
    return "\n".join(lines) + "\n"


@cache
def _way(model: Model, memory_gb: int) -> Way | None:
    px, size = SIDE_PX**2, model.card.size
    assert size is not None
    work = Workload(train_px=px, encode_px=px, sample_px=px, decode_px=px)
    inputs = PlanInputs(size, work, "cuda", optimizer="adamw8bit", backwards=("own",))
    return next(iter(ways_to_fit(inputs, named_card(memory_gb), frozen_weight_changes(inputs), most=1)), None)


def _settings(way: Way) -> str:
    qtype = way.keys.get("model.qtype", "bf16")
    share = way.keys.get("model.layer_offloading_transformer_percent")
    rest = ", activations" if way.keys.get("model.activation_offloading") else ""
    return f"{qtype}{'' if share is None else f', stream {share}'}{rest}"


def requirements() -> str:
    """The table of what each model needs."""
    needs = "card: smallest, comfortable", "RAM with a card of 8, 24, 80 GB", "download", "quantized copy on disk"
    rows = []
    for model in MODELS:
        size = model.card.size
        assert size is not None
        fits = {gb: way for gb in (8, 12, 16, 24, 32, 48, 80) if (way := _way(model, gb)) is not None}
        plain = min(gb for gb, way in fits.items() if "model.layer_offloading" not in way.keys)
        rams = ", ".join(f"{fits[gb].plan.peak_ram_bytes / GB:.0f}" for gb in (8, 24, 80))
        download = 2 * (size.transformer.parameters + model.encoder_parameters + size.vae.parameters)
        copies = {gb: sum(quantized_bytes(way.plan.inputs).values()) for gb, way in fits.items()}
        copy = max(copies.values())
        row = (model.card.label, f"{min(fits)}, {plain} GB", f"{rams} GB", f"{download / GB:.0f} GB")
        rows.append((*row, f"up to {copy / GB:.0f} GB"))
    return "\n".join(table(("model", *needs), rows)) + "\n"


def readme() -> str:
    """The README with a fresh table."""
    text = (REPOSITORY / README).read_text(encoding="utf-8")
    return MARKS.sub(lambda found: f"{found[1]}{requirements()}{found[2]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Write the documents, or check them. Returns the exit code: 1 if a check found one stale."""
    script = "scripts/write_hardware_docs.py"
    texts = {DOCUMENT: document(), README: readme()}
    return write_or_check(REPOSITORY, texts, arguments, script=script, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
