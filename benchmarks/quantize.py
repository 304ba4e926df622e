"""Errors, size and speed of number formats, and how fast models start with them: `python -m benchmarks.quantize`."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from benchmarks.load import write_random_model
from benchmarks.setting import setting
from toolkit.config import ModelConfig
from toolkit.files import write_json
from toolkit.quantize.error_report import matrices, measure, total
from toolkit.quantize.fill import quantize_layer
from toolkit.quantize.formats import FORMATS
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.qtypes import OURS, QTYPES
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.tensor_index import index_tensors

TINY = Path(__file__).parents[1] / "assets" / "flux2_tiny" / "transformer" / "diffusion_pytorch_model.safetensors"
WIDTH, TOKENS, RANK = 3072, 256, 16
PLAIN = "bf16"  # not quantized
BYTES_APART = 64  # of what is read of each weight once it is loaded: every page and cache line
HEADS = 16  # of the model that is loaded: its tensors are so large that free() returns their memory at once


def errors(qtype: str) -> dict[str, float]:
    """Bits per weight, and relative errors of normally distributed weights and of the trained tiny model's weights."""
    gaussian = measure((0.02 * _normal(1024, WIDTH)).bfloat16(), qtype)
    tiny = PlainWeights(index_tensors([TINY]))
    cpu = torch.device("cpu")
    losses = [measure(tiny.read(name, device=cpu, dtype=torch.float32), qtype) for name in matrices(tiny)]
    return {
        "bits_per_weight": round(8 * gaussian.num_bytes / (1024 * WIDTH), 3),
        "error_gaussian": round(gaussian.relative, 5),
        "error_tiny_model": round(total(losses).relative, 5),
        "lora_gradient_error_fp32": _gradient_error(qtype),
    }


def speeds(rounds: int) -> dict[str, dict[str, float]]:
    """CPU time of forward and backward of one layer in bf16, and its ratio to the unquantized layer's time."""
    weight = (0.02 * _normal(WIDTH, WIDTH)).bfloat16()
    arms: dict[str, nn.Module] = {PLAIN: _plain(weight)}
    for qtype, facts in QTYPES.items():
        arms[qtype] = _frozen(weight, qtype)
        if facts.source != OURS:
            arms[f"{qtype} by quanto"] = _quanto(weight, qtype)
    times: dict[str, list[float]] = {name: [] for name in arms}
    x = _normal(TOKENS, WIDTH).bfloat16().requires_grad_()
    for turn in range(rounds + 1):
        for name, layer in arms.items():
            seconds = _step_s(layer, x)
            if turn:  # the first round is a warm-up
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {name: {"cpu_s": round(s, 4), "ratio_to_bf16": round(s / medians[PLAIN], 3)} for name, s in medians.items()}


def start(model: Path, qtype: str | None, cache: Path, *, streamed: bool) -> dict[str, Any]:
    """Load a transformer once, as a run does. Memory is measured for the whole process, so call it once per process.

    Returns:
        `load_s` and `load_cpu_s`: time to load, without imports. `read_cpu_s`: time to read every weight once after
        that, as the first step does. `model_bytes`: size of the loaded tensors. `largest_tensor_bytes`: size of the
        file's largest tensor. `peak_beyond_model_bytes`: peak growth of the process, without the loaded tensors.
        `private_bytes`: growth of the memory that the process shares neither with others nor with the system's cache of
        files.
    """
    from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel

    config = {"name_or_path": str(model), "arch": "flux2_tiny", "quantize": qtype is not None, "quantize_te": False}
    config |= {"qtype": qtype or "qfloat8", "quantize_cache": str(cache)}
    if streamed:
        config |= {"layer_offloading": True, "layer_offloading_transformer_percent": 1.0}
    settings = ModelConfig.model_validate(config)
    loaded = Flux2TinyModel(settings, device=torch.device("cpu"), dtype=torch.bfloat16)
    _import_everything(qtype)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of the imports
    before, private_before = psutil.Process().memory_info().rss, _memory_bytes("RssAnon")
    begin, cpu_begin = time.perf_counter(), time.process_time()
    loaded.load("transformer")
    load_s, load_cpu_s = time.perf_counter() - begin, time.process_time() - cpu_begin
    tensors = list(loaded.transformer.state_dict().values())
    for tensor in tensors:
        tensor.detach().flatten().view(torch.uint8)[::BYTES_APART].amax()
    read_cpu_s = time.process_time() - cpu_begin - load_cpu_s
    size = sum(tensor.nbytes for tensor in tensors)
    largest = max(entry.num_bytes for entry in index_tensors([model]).entries.values())
    return {
        "load_s": round(load_s, 2),
        "load_cpu_s": round(load_cpu_s, 3),
        "read_cpu_s": round(read_cpu_s, 3),
        "model_bytes": size,
        "largest_tensor_bytes": largest,
        "peak_beyond_model_bytes": _memory_bytes("VmHWM") - before - size,
        "private_bytes": _memory_bytes("RssAnon") - private_before,
    }


def starts(
    qtypes: list[str], *, num_double: int, num_single: int, folder: str | None, streamed: bool = False
) -> dict[str, Any]:
    """Time the first and the cached start of a random model with each format; with `PLAIN` there is only one kind.

    With `streamed`, there is also a cached start with all blocks in RAM.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model = Path(temporary) / "model.safetensors"
        write_random_model(model, num_heads=HEADS, num_double=num_double, num_single=num_single)
        result: dict[str, Any] = {"file_bytes": model.stat().st_size}
        for qtype in qtypes:
            if qtype == PLAIN:
                result[PLAIN] = _start_in_process(model, PLAIN, temporary)
                continue
            first, cached = (_start_in_process(model, qtype, temporary) for _ in range(2))
            speedup = round(_cpu_s(first) / _cpu_s(cached), 2)
            result[qtype] = {"first": first, "cached": cached, "first_to_cached": speedup}
            if streamed:
                result[qtype]["cached, streamed"] = _start_in_process(model, qtype, temporary, streamed=True)
            for entry in Path(temporary).glob(f"*-{qtype}-*"):
                entry.unlink()
        return result


def _import_everything(qtype: str | None) -> None:
    """Import and run all code once, so that it does not count as memory of the weights."""
    quantized = nn.Sequential(_plain(_normal(64, 64)))
    if qtype is not None:
        quantize_layer(quantized, "0", qtype)
    quantized(_normal(1, 64))


def _cpu_s(start: dict[str, Any]) -> float:
    return float(start["load_cpu_s"] + start["read_cpu_s"])


def _start_in_process(model: Path, qtype: str, cache: str, *, streamed: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.quantize", "--start", str(model), cache, qtype]
    command += ["--streamed"] if streamed else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _memory_bytes(kind: str) -> int:
    # Not ru_maxrss: in a new process it starts with the value of the parent process.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(kind)))


def _step_s(layer: nn.Module, x: Tensor) -> float:
    begin = time.process_time()
    layer(x).sum().backward()
    x.grad = None
    return time.process_time() - begin


def _gradient_error(qtype: str) -> float:
    """Largest relative difference of LoRA gradients in two layers from those with the dequantized weights."""
    layers = [_frozen(0.05 * _normal(256, 256), qtype) for _ in range(2)]
    plain = [_plain(layer.dequantize(torch.float32)) for layer in layers]
    found, expected = _lora_gradients(layers), _lora_gradients(plain)
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


def _lora_gradients(layers: list[Any]) -> list[Tensor]:
    x, loras = _normal(64, 256), []
    for layer in layers:
        a, b = ((0.1 * _normal(*shape)).requires_grad_() for shape in ((RANK, 256), (256, RANK)))
        loras += [a, b]
        x = layer(x) + x @ a.T @ b.T
    return list(torch.autograd.grad(x.square().mean(), loras))


def _plain(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def _frozen(weight: Tensor, qtype: str) -> FrozenLinear:
    return FrozenLinear(FORMATS[qtype].quantize(weight), qtype=qtype, in_features=weight.shape[1], bias=None)


def _quanto(weight: Tensor, qtype: str) -> nn.Module:
    from optimum.quanto import freeze, qtypes, quantize

    model = nn.Sequential(_plain(weight))
    quantize(model, weights=qtypes[qtype])
    freeze(model)
    return model


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def main() -> None:
    """Measure the selected parts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["formats", "layer", "start"], help="measure only this part")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds for the speed of one layer")
    parser.add_argument("--double", type=int, default=2, help="double blocks of the model that is loaded")
    parser.add_argument("--single", type=int, default=6, help="single blocks; 2 double and 6 single blocks take 1.3 GB")
    parser.add_argument("--qtypes", nargs="*", default=[PLAIN, *QTYPES], help="formats to load the model in")
    parser.add_argument("--folder", help="where the model is written for a while; unset: the temporary folder")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--start", nargs=3, help=argparse.SUPPRESS)  # internal: model, cache and qtype
    parser.add_argument("--streamed", action="store_true", help=argparse.SUPPRESS)  # with it: all blocks are streamed
    options = parser.parse_args()
    if options.start:
        model, cache, qtype = options.start
        found = start(Path(model), None if qtype == PLAIN else qtype, Path(cache), streamed=options.streamed)
        print(json.dumps(found))
        return
    figures: dict[str, Any] = {
        **setting(on_card=False),
        "threads": torch.get_num_threads(),
        "shape": {"width": WIDTH, "tokens": TOKENS},
    }
    parts: dict[str, Callable[[], Any]] = {
        "formats": lambda: {qtype: errors(qtype) for qtype in QTYPES},
        "layer": lambda: speeds(options.rounds),
        "start": lambda: starts(
            options.qtypes,
            num_double=options.double,
            num_single=options.single,
            folder=options.folder,
            streamed=True,
        ),
    }
    for name, part in parts.items():
        if options.only not in (None, name):
            continue
        figures[name] = part()
        print(json.dumps({name: figures[name]}, indent=2), flush=True)
    if options.out:
        write_json(options.out, figures)


if __name__ == "__main__":
    main()
