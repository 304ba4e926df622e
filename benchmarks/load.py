"""Time and extra memory that loading a transformer takes: `python -m benchmarks.load --out FILE`."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import Flux2Transformer2DModel

from benchmarks.setting import setting
from extensions_built_in.diffusion_models.flux2.loading import transformer_recipe
from extensions_built_in.diffusion_models.flux2.released_files import to_single_file
from toolkit.files import write_json
from toolkit.weights.layouts import ComponentFiles, find_component

HEAD_DIM = 128


def measure(path: Path, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Load the file once and measure. Memory is measured for the whole process, so call this only once per process.

    Returns:
        `load_s`: time to load. `model_bytes`: size of the loaded weights. `largest_tensor_bytes`: size of the file's
        largest tensor. `host_peak_bytes`: peak growth of the process. `host_peak_beyond_model_bytes`: the same without
        the weights, if those are in host memory.
    """
    files = find_component(str(path), "transformer", setting="path")
    largest = _largest_tensor_bytes(files)
    before = psutil.Process().memory_info().rss
    begin = time.perf_counter()
    model = transformer_recipe(files, arch="flux2_tiny").load(dtype=dtype, device=device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    load_s = time.perf_counter() - begin
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {
        "load_s": round(load_s, 2),
        "model_bytes": model_bytes,
        "largest_tensor_bytes": largest,
        "host_peak_bytes": peak,
        "host_peak_beyond_model_bytes": peak - (model_bytes if device.type == "cpu" else 0),
    }


def write_random_model(
    path: Path, *, num_heads: int, num_double: int, num_single: int, text_size: int | None = None, channels: int = 128
) -> None:
    """Write a bf16 single file with the released names and random values."""
    with torch.device("meta"):
        model = Flux2Transformer2DModel(
            num_layers=num_double,
            num_single_layers=num_single,
            attention_head_dim=HEAD_DIM,
            num_attention_heads=num_heads,
            joint_attention_dim=text_size or 3 * HEAD_DIM * num_heads,
            in_channels=channels,
            guidance_embeds=False,
        )
    write_random({name: tuple(tensor.shape) for name, tensor in to_single_file(model.state_dict()).items()}, path)


def write_random(shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Write a bf16 file of these tensors with random values."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    generator = torch.Generator().manual_seed(0)
    block = (0.02 * torch.randn(1 << 23, generator=generator)).bfloat16().view(torch.uint8).numpy().tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        while end > 0:
            file.write(block[:end])
            end -= len(block)


def _largest_tensor_bytes(files: ComponentFiles) -> int:
    from toolkit.weights.tensor_index import index_tensors

    return max(2 * torch.Size(entry.shape).numel() for entry in index_tensors(files.weights).entries.values())


def main() -> None:
    """Write a model, load it in this process and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=16, help="width / 128 (48: dev, 32: klein 9B, 24: klein 4B)")
    parser.add_argument("--double", type=int, default=2, help="double blocks")
    parser.add_argument("--single", type=int, default=6, help="single blocks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--folder", help="folder for the temporary model file; default: the system's")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "model.safetensors"
        write_random_model(path, num_heads=arguments.heads, num_double=arguments.double, num_single=arguments.single)
        file_bytes = path.stat().st_size
        dtype = getattr(torch, arguments.dtype)
        figures = measure(path, dtype=dtype, device=torch.device(arguments.device))
    head = {
        "command": f"heads {arguments.heads}, {arguments.double} + {arguments.single} blocks, {arguments.dtype}",
        **setting(on_card=arguments.device.startswith("cuda")),
        "file_bytes": file_bytes,
    }
    print(json.dumps(head | figures, indent=2))
    if arguments.out:
        write_json(arguments.out, head | figures)


if __name__ == "__main__":
    main()
