"""What adapters cost per step beside a native reference of the same size: `python -m benchmarks.adapters --out FILE`.

Forward and backward pass of a LoRA of rank 16 on a random transformer, alone, with a reference image of the training
size, and with each adapter that reads an image. CPU time where there is no card, because other programs affect it
little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_model import empty_transformer, random_recipe, transformer_build
from benchmarks.setting import setting
from benchmarks.step import TEXT_TOKENS, job_of
from benchmarks.step_cells import RANK, Cell
from toolkit.adapters.adapter_set import AdapterSet, view_name
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.files import write_json
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast
from toolkit.util.get_model import get_model_class

VIEW = ViewShape(num_tokens=729, width=1152)  # SigLIP so400m at 384 pixels
ARMS = ("alone", "native reference", "ip", "ip+", "vision_direct", "redux")


def run_arm(arm: str, *, size: str, side_px: int, steps: int, device: torch.device) -> dict[str, Any]:
    """Median seconds of a forward and backward pass, and the number of the adapter's weights."""
    cell = Cell(size, side_px)
    with tempfile.TemporaryDirectory() as folder:
        config = job_of(cell, Path(folder))
    model: Any = get_model_class(config.model)(config.model, device=device, dtype=torch.bfloat16)
    recipe = random_recipe(empty_transformer(transformer_build(size)))
    model.transformer = model.load_recipe("transformer", recipe, dtype=torch.bfloat16)
    assert config.network is not None
    Network(model, config.network, Draws(0)).apply()
    adapters, extras = AdapterSet(), {}
    side, width = side_px // 16, transformer_build(size).joint_dim
    if arm in ADAPTERS:
        adapter = ADAPTERS[arm].load()(AdapterConfig(type=arm, image_encoder_path="random"), VIEW)
        adapter.attach(model, Draws(0))
        adapters = AdapterSet((adapter,))
        extras = {view_name(0): torch.randn(1, VIEW.num_tokens, VIEW.width, device=device)}
    model.enable_gradient_checkpointing()
    model.transformer.train()
    latents = torch.randn(1, 128, side, side, device=device)
    references = (torch.randn_like(latents),) if arm == "native reference" else ()
    embeds = torch.randn(1, TEXT_TOKENS, width, device=device).bfloat16()
    condition = Condition(embeds, references=references, extras=extras)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(steps + 1):
        begin = clock()
        with autocast(device, torch.bfloat16), adapters.reading(condition, num_noisy=side**2) as adapted:
            velocity = model.get_noise_prediction(latents, torch.full((1,), 500.0, device=device), adapted)
        velocity.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - begin)
    weights = sum(w.numel() for one in adapters.adapters for _, w in one.named_parameters())
    return {"s_per_pass": round(statistics.median(times[1:]), 4), "num_weights": weights}


def main() -> None:
    """Measure each arm and print it with its ratio to the LoRA alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", help="a size of `benchmarks.step`, such as flux2_klein_4b")
    parser.add_argument("--side", type=int, default=512, help="width and height of image and reference in pixels")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: dict[str, Any] = {}
    for arm in ARMS:
        rows[arm] = run_arm(arm, size=arguments.size, side_px=arguments.side, steps=arguments.steps, device=device)
        rows[arm]["ratio"] = round(rows[arm]["s_per_pass"] / rows["alone"]["s_per_pass"], 3)
        print(arm, json.dumps(rows[arm]), flush=True)
    if arguments.out:
        head = {
            "what": f"{arguments.size}, {arguments.side} px, rank {RANK}, bf16, blocks recomputed",
            **setting(on_card=device.type == "cuda"),
        }
        write_json(arguments.out, {**head, "arms": rows})


if __name__ == "__main__":
    main()
