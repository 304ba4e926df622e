"""Time and error of frozen linear layers by how they multiply: `python -m benchmarks.compute --out FILE`.

A cell is one weight of the `mid` model (hidden size 1024) at 256 px: 256 tokens of image, 512 of text. Each arm is a
layer, forward and towards its input, on the same bf16 inputs; all arms are measured in each round, in random order, and
compared with the plain bf16 layer of the same round. On a CPU the time is that of one thread, in CPU time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.setting import setting
from toolkit.compute.choices import COMPUTES
from toolkit.compute.machine import machine_of
from toolkit.compute.use import use_compute
from toolkit.files import write_json
from toolkit.quantize.formats import FORMATS
from toolkit.quantize.frozen_linear import FrozenLinear

HIDDEN, TOKENS, SIGMA, WARM_UP = 1024, 768, 0.02, 2
# What the weight is for: (outputs, inputs) in units of the hidden size, and how many a forward pass of `mid` has.
WEIGHTS = {
    "single, in": (9, 1, 8),
    "single, out": (1, 4, 8),
    "double, q k v": (3, 1, 4),
    "double, attention out": (1, 1, 4),
    "double, MLP in": (6, 1, 4),
    "double, MLP out": (1, 3, 4),
}
PLAIN = "bf16"
Run = Callable[[], tuple[Tensor, Tensor]]


def arms(weight: Tensor, x: Tensor, gradient: Tensor) -> dict[str, Run]:
    """How each arm computes the output, and the gradient of x.

    Args:
        weight: [N, K], bf16.
        x, gradient: [M, K] and [M, N], bf16.
    """
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    plain.weight = nn.Parameter(weight, requires_grad=False)
    layers: dict[str, nn.Module] = {PLAIN: plain, "int8 dequantized": _frozen(weight, "int8")}
    machine = machine_of(str(x.device))
    for name, row in COMPUTES.items():
        for qtype in row.products if machine.can(row) else ():
            if qtype.startswith("q"):  # quanto's rounding of weights, multiplied alike
                continue
            layer = _frozen(weight, qtype)
            use_compute(layer, name)
            layers[f"{name} of {qtype}"] = layer
    return {name: _run(layer, x, gradient) for name, layer in layers.items()}


def measure(weight: Tensor, x: Tensor, gradient: Tensor, *, rounds: int, order: random.Random) -> dict[str, Any]:
    """Median milliseconds of each arm, the median of its ratios to the plain one, and its errors in dB."""
    runs = arms(weight, x, gradient)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + WARM_UP):
        for name in order.sample(list(runs), len(runs)):
            times[name].append(_time(runs[name], x.device))
    exact = x.float() @ weight.float().T, gradient.float() @ weight.float()
    return {
        name: {
            "ms": round(1e3 * statistics.median(own[WARM_UP:]), 2),
            "times_faster": round(_ratio(times[PLAIN][WARM_UP:], own[WARM_UP:]), 3),
            "sqnr_db": [round(_sqnr(*pair), 1) for pair in zip(runs[name](), exact, strict=True)],
        }
        for name, own in times.items()
    }


def whole_pass(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How many times faster than plain all frozen products of a pass of `mid` are, by arm."""
    sums: dict[str, float] = {}
    for weight, row in cells.items():
        for arm, figures in row.items():
            sums[arm] = sums.get(arm, 0) + WEIGHTS[weight][2] * figures["ms"]
    return {arm: round(sums[PLAIN] / total, 3) for arm, total in sums.items()}


def _frozen(weight: Tensor, qtype: str) -> FrozenLinear:
    return FrozenLinear(FORMATS[qtype].quantize(weight), qtype=qtype, in_features=weight.shape[1], bias=None)


def _run(layer: nn.Module, x: Tensor, gradient: Tensor) -> Run:
    leaf = x.detach().requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        output = layer(leaf)
        return output.detach(), torch.autograd.grad(output, leaf, gradient)[0]

    return run


def _time(run: Run, device: torch.device) -> float:
    on_card = device.type == "cuda"
    clock = time.perf_counter if on_card else time.process_time
    if on_card:
        torch.cuda.synchronize()
    begin = clock()
    run()
    if on_card:
        torch.cuda.synchronize()
    return clock() - begin


def _ratio(plain: list[float], own: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(plain, own, strict=True))


def _sqnr(found: Tensor, exact: Tensor) -> float:
    return float(20 * torch.log10(exact.norm() / (found.float() - exact).norm()))


def main() -> None:
    """Measure all cells, print them and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=HIDDEN)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.device.type == "cpu":
        torch.set_num_threads(1)
    order, cells = random.Random(0), {}
    for name, (outputs, inputs, _) in WEIGHTS.items():
        like = {"dtype": torch.bfloat16, "device": options.device}
        weight = SIGMA * torch.randn(outputs * options.hidden, inputs * options.hidden, **like)
        x = torch.randn(options.tokens, weight.shape[1], **like)
        gradient = torch.randn(options.tokens, weight.shape[0], **like)
        cells[name] = measure(weight, x, gradient, rounds=options.rounds, order=order)
        print(name, json.dumps(cells[name]), flush=True)
    result: dict[str, Any] = setting(on_card=options.device.type == "cuda")
    result |= {"hidden": options.hidden, "tokens": options.tokens, "rounds": options.rounds}
    result |= {"cells": cells, "times_faster_in_all": whole_pass(cells)}
    write_json(options.out, result)
    print(result["times_faster_in_all"])


if __name__ == "__main__":
    main()
