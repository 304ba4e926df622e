"""Reads weights stored in 8 bits with separate scales, as ComfyUI and others write them, as plain weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.weights.tensor_index import TensorIndex

# Suffixes of tensors that belong to `<layer>.weight`. Input scales only serve 8-bit arithmetic and are ignored.
_WEIGHT_SCALES = (".weight_scale", ".scale_weight")
_IGNORED = (".input_scale", ".scale_input", ".comfy_quant")
_MARKER = "scaled_fp8"
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
_ROWS_AT_ONCE = 1024


class PlainWeights:
    """The tensors of an index, with scales multiplied into the weights and not listed themselves."""

    def __init__(self, index: TensorIndex) -> None:
        self._scales = {
            f"{name.removesuffix(suffix)}.weight": name
            for name in index.entries
            for suffix in _WEIGHT_SCALES
            if name.endswith(suffix)
        }
        ignored = {name for name in index.entries if name.endswith(_IGNORED) or name == _MARKER}
        self._index = index
        self.entries = index.without({*ignored, *self._scales.values()}).entries
        self._check()

    def read(self, name: str, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """One tensor. If it has a scale, that is multiplied in, in `dtype` on `device`; else it is as in the file."""
        tensor = self._index.read(name)
        if name not in self._scales:
            return tensor
        scale = self._index.read(self._scales[name]).to(device, torch.float32)
        return unscaled(tensor.to(device), scale, dtype=dtype)

    def only(self, names: Collection[str]) -> PlainWeights:
        """The same weights, of which only these are listed."""
        found = copy.copy(self)
        found.entries = {name: entry for name, entry in self.entries.items() if name in names}
        return found

    def _check(self) -> None:
        for name, entry in self.entries.items():
            if name.endswith(".weight_scale_2") or (len(entry.shape) > 1 and entry.dtype not in _FLOATS):
                raise UserError(
                    f"{entry.path}: `{entry.name}` is stored in fewer than 8 bits or as integers ({entry.dtype}), "
                    "and training cannot start from that. Use the bf16 or fp8 file; `model.quantize` makes it small."
                )
        for weight, name in self._scales.items():
            scale = self._index.entries[name]
            if weight not in self.entries:
                raise UserError(f"{scale.path}: has the scale `{scale.name}` but not its weight. Download it again.")
            if math.prod(scale.shape) not in (1, self.entries[weight].shape[0]):
                raise UserError(
                    f"{scale.path}: `{scale.name}` has shape {list(scale.shape)}, which is neither a single scale nor "
                    "one per row. Use the bf16 file of this model."
                )


def unscaled(weight: Tensor, scale: Tensor, *, dtype: torch.dtype) -> Tensor:
    """`weight * scale` in `dtype`, a few rows at a time.

    Args:
        weight: the stored weight, [N, K], 8-bit floats.
        scale: a single scale ([] or [1]) or one per row ([N] or [N, 1]), fp32.
        dtype: number format of the result.
    """
    rows = scale.reshape(-1, 1)  # [1 or N, 1]
    result = torch.empty_like(weight, dtype=dtype)
    for start in range(0, weight.shape[0], _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        result[part] = weight[part].float() * (rows if rows.shape[0] == 1 else rows[part])
    return result
