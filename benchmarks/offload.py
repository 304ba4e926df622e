"""Time that layer and activation offloading cost, and memory they save: `python -m benchmarks.offload --out FILE`."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from peft import LoraConfig, inject_adapter_in_model

from benchmarks.random_model import position_ids
from benchmarks.setting import setting
from toolkit.files import write_json
from toolkit.memory.activation_offload import ActivationOffload
from toolkit.memory.host import release_memory
from toolkit.memory.placement import block_names, choose_placement
from toolkit.memory.recompute import checkpointed

HEAD_DIM, TEXT_TOKENS, RANK = 128, 512, 16


def build(
    *, num_heads: int, num_double: int, num_single: int, share: float, device: torch.device, dtype: torch.dtype
) -> tuple[torch.nn.Module, Any]:
    """A transformer with random weights and LoRA on every linear layer of its blocks, with a share of it offloaded."""
    with torch.device("meta"):
        model = Flux2Transformer2DModel(
            num_layers=num_double,
            num_single_layers=num_single,
            attention_head_dim=HEAD_DIM,
            num_attention_heads=num_heads,
            joint_attention_dim=3 * HEAD_DIM * num_heads,
            guidance_embeds=False,
        )
    model.requires_grad_(False)
    placement = choose_placement(model, block_names(model), share=share, device=device)
    for name, parameter in list(model.named_parameters()):
        parent, _, leaf = name.rpartition(".")
        value = torch.empty(parameter.shape, dtype=dtype, device=placement.device_of(name))
        value = value.fill_(1.0) if parameter.ndim == 1 else value.normal_(0, 0.02)
        setattr(model.get_submodule(parent), leaf, torch.nn.Parameter(value, requires_grad=False))
    offload = placement.offload(model) if placement.streamed else None
    targets = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "blocks." in n]
    inject_adapter_in_model(LoraConfig(r=RANK, target_modules=targets), model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(device, torch.float32)
    return model, offload


def measure(
    model: Any, *, side_px: int, steps: int, device: torch.device, dtype: torch.dtype, offload_inputs: bool
) -> dict[str, Any]:
    """Time of forward and backward (median of `steps` after two warm-up steps), and the peak memory on the card.

    Without a card, CPU time is measured, because other programs affect it little.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    run = ActivationOffload() if offload_inputs else checkpointed
    model.enable_gradient_checkpointing(run)
    model.train()
    side = side_px // 16
    draw = torch.Generator(device).manual_seed(0)
    tokens = torch.randn(1, side * side, 128, device=device, generator=draw)
    text = torch.randn(1, TEXT_TOKENS, model.config.joint_attention_dim, device=device, generator=draw)
    image_ids, text_ids = position_ids(side, TEXT_TOKENS, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(steps + 2):
        begin = clock()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            velocity = model(tokens, text, torch.full((1,), 0.5, device=device), image_ids, text_ids, return_dict=False)
        velocity[0].float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - begin)
        for parameter in model.parameters():
            parameter.grad = None
    peak = {}
    if device.type == "cuda":
        peak = {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    return {"s_per_step": round(statistics.median(times[2:]), 4), "spread_s": _spread(times[2:]), **peak}


def _spread(times: list[float]) -> list[float]:
    return [round(min(times), 4), round(max(times), 4)]


def main() -> None:
    """Measure every share with and without activation offloading, one after another in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, help="width / 128 (48: dev, 32: klein 9B, 24: klein 4B)")
    parser.add_argument("--double", type=int, default=2, help="double blocks (8, 8, 5)")
    parser.add_argument("--single", type=int, default=6, help="single blocks (48, 24, 20)")
    parser.add_argument("--side", type=int, help="width and height of the images in pixels")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    has_card = torch.cuda.is_available()
    device, dtype = (torch.device("cuda"), torch.bfloat16) if has_card else (torch.device("cpu"), torch.float32)
    heads, side = arguments.heads or (24 if has_card else 4), arguments.side or (1024 if has_card else 256)
    rows = []
    for share in arguments.shares:
        for offload_inputs in (False, True):
            model, offload = build(
                num_heads=heads,
                num_double=arguments.double,
                num_single=arguments.single,
                share=share,
                device=device,
                dtype=dtype,
            )
            if offload is not None:
                offload.is_recomputed = True
            figures = measure(
                model,
                side_px=side,
                steps=arguments.steps,
                device=device,
                dtype=dtype,
                offload_inputs=offload_inputs,
            )
            rows.append({"share": share, "activation_offloading": offload_inputs, **figures})
            print(json.dumps(rows[-1]), flush=True)
            if offload is not None:
                offload.detach()
            del model, offload
            release_memory()
    head = {
        "what": f"heads {heads}, {arguments.double} + {arguments.single} blocks, {dtype}, {side} x {side} pixels",
        **setting(on_card=has_card),
    }
    if arguments.out:
        write_json(arguments.out, {**head, "rows": rows})


if __name__ == "__main__":
    main()
