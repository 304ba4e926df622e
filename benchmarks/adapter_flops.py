"""What adapters cost per step on released sizes, in floating-point operations: `python -m benchmarks.adapter_flops`.

Counts the products of a forward and backward pass of a LoRA of rank 16 with recomputed blocks: alone, with a reference
image of the training size, and with each adapter that reads an image. Tensors are on the meta device, so nothing is
multiplied, and no card is needed. Where the seconds of a step with the LoRA alone have been measured, the others are
computed from them, as if all products took the same time each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.adapters import VIEW
from benchmarks.random_model import empty_transformer, transformer_build
from benchmarks.step import TEXT_TOKENS, job_of
from benchmarks.step_cells import RANK, Cell
from toolkit.adapters.adapter_set import AdapterSet, control_name, view_name
from toolkit.adapters.choices import ADAPTERS
from toolkit.config import AdapterConfig
from toolkit.files import write_json
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.util.get_model import get_model_class

META = torch.device("meta")
SIZES = ("flux2", "flux2_klein_9b", "flux2_klein_4b")
SIDE_PX = 1024
ARMS: dict[str, dict[str, Any] | None] = {
    "alone": None,
    "native reference": None,
    "ip": {"type": "ip"},
    "ip, double blocks": {"type": "ip", "blocks": "double"},
    "ip+": {"type": "ip+"},
    "ip+, double blocks": {"type": "ip+", "blocks": "double"},
    "vision_direct": {"type": "vision_direct"},
    "vision_direct, double blocks": {"type": "vision_direct", "blocks": "double"},
    "redux": {"type": "redux"},
    "control_lora": {"type": "control_lora"},
}
_MEASURED = Path(__file__).parent / "results" / "step-h100.json"
_CELLS = {"flux2": "dev-1024", "flux2_klein_9b": "9b-1024", "flux2_klein_4b": "4b-1024"}


def count(size: str, arm: str) -> int:
    """Floating-point operations of the products in a forward and backward pass."""
    with tempfile.TemporaryDirectory() as folder:
        config = job_of(Cell(size, SIDE_PX), Path(folder))
    # In fp32: as many products as in any other number format.
    model: Any = get_model_class(config.model)(config.model, device=META, dtype=torch.float32)
    model.transformer = empty_transformer(transformer_build(size))
    assert config.network is not None
    Network(model, config.network, Draws(0)).apply()
    adapters, extras, side = AdapterSet(), {}, SIDE_PX // 16
    latents = torch.randn(1, 128, side, side, device=META)
    section = ARMS[arm]
    if section is not None:
        choice = ADAPTERS[section["type"]]
        if choice.reads == "view":
            section = {**section, "image_encoder_path": "random"}
            extras[view_name(0)] = torch.randn(1, VIEW.num_tokens, VIEW.width, device=META)
        if choice.reads == "control":
            extras[control_name(0)] = torch.randn_like(latents)
        adapter = choice.load()(AdapterConfig.model_validate(section), VIEW)
        adapter.attach(model, Draws(0))
        adapters = AdapterSet((adapter,))
    model.enable_gradient_checkpointing()
    model.transformer.train()
    embeds = torch.randn(1, TEXT_TOKENS, transformer_build(size).joint_dim, device=META)
    references = (torch.randn_like(latents),) if arm == "native reference" else ()
    condition = Condition(embeds, references=references, extras=extras)
    counter = FlopCounterMode(display=False)
    with counter, adapters.reading(condition, num_noisy=side**2) as adapted:
        velocity = model.get_noise_prediction(latents, torch.full((1,), 500.0, device=META), adapted)
        velocity.float().square().mean().backward()
    return counter.get_total_flops()


def measured_seconds(size: str) -> float | None:
    """Seconds of a step with the LoRA alone, from the benchmark of steps; None if it was not measured."""
    cells = json.loads(_MEASURED.read_text(encoding="utf-8"))["cells"]
    found = cells.get(_CELLS[size])
    return None if found is None else found["ours"]["s_per_step"]


def main() -> None:
    """Count each arm on each size, and print it with its ratio to the LoRA alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs="+", default=SIZES, help="sizes of `benchmarks.step`")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    sizes: dict[str, Any] = {}
    for size in arguments.size:
        rows: dict[str, Any] = {}
        seconds = measured_seconds(size)
        for arm in ARMS:
            flops = count(size, arm)
            ratio = flops / rows["alone"]["flops"] if rows else 1.0
            rows[arm] = {"flops": flops, "ratio": round(ratio, 4)}
            if seconds is not None:
                rows[arm]["s_computed"] = round(seconds * ratio, 3)
            print(size, arm, json.dumps(rows[arm]), flush=True)
        sizes[size] = rows
    if arguments.out:
        what = f"computed: products of forward and backward, {SIDE_PX} px, rank {RANK}, blocks recomputed"
        write_json(arguments.out, {"what": what, "torch": torch.__version__, "sizes": sizes})


if __name__ == "__main__":
    main()
