"""Files with whole weights, written by one process while all ranks gather the weights for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from toolkit.parallel.weight_layout import WeightLayout
from toolkit.weights.tensor_files import file_order, write_tensors


def write_whole(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    layout: WeightLayout,
    *,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write a safetensors file. No process holds more than one whole tensor at a time.

    Args:
        path: the file; only the first process writes it.
        tensors: the content; see `WeightLayout.deferred`.
        metadata: the header's free-form metadata.
        layout: where the weights are. All ranks must write together.
        check: see `write_tensors`; only where the weights are whole.

    Raises:
        OSError: the file cannot be written.
        RankFailed: on the other ranks, if the first cannot write it.
    """
    names = file_order(tensors)
    left = list(reversed(names))

    def read(tensor: Tensor) -> Tensor:
        left.pop()
        return layout.whole(tensor)

    def take_part() -> None:
        try:
            if layout.is_first:
                write_tensors(path, tensors, metadata, read=read, check=check)
        finally:
            while left:  # the other ranks gather the rest, whatever has become of the file
                read(tensors[left[-1]])

    layout.together(take_part)
