"""The size and error of each number format, layer by layer: `python -m toolkit.quantize.error_report MODEL`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.quantize.formats import FORMATS
from toolkit.quantize.qtypes import QTYPES
from toolkit.units import as_size
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.tensor_index import index_tensors

_IN_BLOCK = re.compile(r"(.*\.)?\d+\..*weight")  # `transformer_blocks.3.attn.to_q.weight`, but not embedders


@dataclass(frozen=True)
class Loss:
    """The result of quantizing one weight to one format.

    Attributes:
        num_bytes: bytes of the quantized buffers.
        error: norm of the difference from the exact weight.
        norm: norm of the exact weight.
    """

    num_bytes: int
    error: float
    norm: float

    @property
    def relative(self) -> float:
        """The error relative to the norm of the weight."""
        return self.error / self.norm if self.norm else 0.0


def measure(weight: Tensor, qtype: str) -> Loss:
    """Quantize a weight [N, K] and compare it with the original."""
    buffers = FORMATS[qtype].quantize(weight)
    found = FORMATS[qtype].dequantize(buffers, in_features=weight.shape[1], dtype=torch.float32)
    exact = weight.float()
    num_bytes = sum(buffer.nbytes for buffer in buffers.values())
    return Loss(num_bytes, float(found.sub_(exact).norm()), float(exact.norm()))


def total(losses: Sequence[Loss]) -> Loss:
    """The loss of all layers together."""
    error, norm = (sum(getattr(loss, name) ** 2 for loss in losses) ** 0.5 for name in ("error", "norm"))
    return Loss(sum(loss.num_bytes for loss in losses), error, norm)


def matrices(weights: PlainWeights, *, containing: str = "") -> list[str]:
    """Names of the weights inside blocks that can be quantized."""
    return [
        name
        for name, entry in weights.entries.items()
        if len(entry.shape) == 2 and _IN_BLOCK.fullmatch(name) and containing in name
    ]


def report(weights: PlainWeights, names: Sequence[str], qtypes: Sequence[str], device: torch.device) -> Iterator[str]:
    """A line per weight with the relative error of each format, then lines with the total error and size."""
    losses: dict[str, list[Loss]] = {qtype: [] for qtype in qtypes}
    width = max(map(len, names))
    yield _line("relative error of", qtypes, width)
    for name in names:
        weight = weights.read(name, device=device, dtype=torch.bfloat16).to(device)
        for qtype in qtypes:
            losses[qtype].append(measure(weight, qtype))
        yield _line(name, [f"{losses[qtype][-1].relative:.2%}" for qtype in qtypes], width)
    sums = [total(losses[qtype]) for qtype in qtypes]
    yield _line("total", [f"{loss.relative:.2%}" for loss in sums], width)
    yield _line("size", [as_size(loss.num_bytes) for loss in sums], width)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m toolkit.quantize.error_report", description=__doc__)
    parser.add_argument("model", type=Path, help="safetensors file, or folder of one component's files")
    parser.add_argument("--qtype", nargs="+", default=list(QTYPES), choices=QTYPES, help="formats; default: all")
    parser.add_argument("--only", default="", metavar="TEXT", help="only weights whose name contains this")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args(arguments)
    files = sorted(options.model.glob("*.safetensors")) if options.model.is_dir() else [options.model]
    try:
        weights = PlainWeights(index_tensors(files))
        names = matrices(weights, containing=options.only)
        if not names:
            raise UserError(
                f"{options.model}: has no matrices inside blocks. Give a single component, such as the transformer."
            )
        for line in report(weights, names, options.qtype, options.device):
            print(line, flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _line(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
