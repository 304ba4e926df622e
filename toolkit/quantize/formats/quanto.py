"""The formats of optimum-quanto, with its rounding but our own buffers.

Its own layers keep weights in tensor subclasses, which cannot be moved as plain bytes, and choose kernels with
different layouts depending on the card. The library is imported only when weights are rounded: a start from cached
weights does not need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.quantize.formats.format import Buffers, by_rows
from toolkit.quantize.formats.groups import codebook_of_bytes, packed, unpack
from toolkit.quantize.formats.rows import FLOAT8, INT8, RowScaled


@dataclass(frozen=True)
class QuantoRows:
    """`qfloat8` and `qint8`: like `RowScaled`, but rounded by quanto in the weight's dtype.

    Attributes:
        name: name of quanto's qtype.
        layout: how the numbers are stored.
    """

    name: str
    layout: RowScaled

    def quantize(self, weight: Tensor) -> Buffers:
        """`qweight` [N, K], `scale` [N, 1] in the weight's dtype."""
        return by_rows(weight, self._quantize_rows)

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        return self.layout.dequantize(buffers, in_features=in_features, dtype=dtype)

    def _quantize_rows(self, weight: Tensor) -> Buffers:
        from optimum import quanto

        scale = quanto.AbsmaxOptimizer().optimize(weight, quanto.qtypes[self.name], axis=0)  # [N, 1]
        scale = scale.clamp(min=torch.finfo(weight.dtype).tiny)  # a row of zeros would become NaN
        per_row = {"axis": 0, "scale": scale} if len(weight) > 1 else {"axis": None, "scale": scale.squeeze()}
        numbers = torch.ops.quanto.quantize_symmetric(weight, dtype=self.layout.storage, **per_row)
        return {"qweight": self.layout.pack(numbers), "scale": scale}


@dataclass(frozen=True)
class QuantoGroups:
    """`qint4` and `qint2`: even steps between the smallest and the largest weight of a group.

    Attributes:
        name: name of quanto's qtype.
    """

    name: str

    def quantize(self, weight: Tensor) -> Buffers:
        """`qweight` [N, bytes], `scale` and `offset` [N, groups] in the weight's dtype, and `codebook`."""
        buffers = by_rows(weight, self._quantize_rows)
        num_steps = 2 ** self._qtype().bits
        return buffers | {"codebook": codebook_of_bytes(tuple(map(float, range(num_steps)))).to(weight.device)}

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        return unpack(buffers, in_features=in_features, dtype=dtype)

    def _quantize_rows(self, weight: Tensor) -> Buffers:
        from optimum import quanto

        qtype = self._qtype()
        groups = weight.reshape(-1, _group_size(weight.shape[1]))
        scale, shift = quanto.MaxOptimizer().optimize(groups, qtype, axis=0)  # [N * groups, 1]
        scale = scale.clamp(min=torch.finfo(weight.dtype).tiny)
        codes = torch.ops.quanto.quantize_affine(
            groups, bits=qtype.bits, axis=0, group_size=None, scale=scale, shift=shift
        )
        num_rows = weight.shape[0]
        return packed(
            codes.reshape(weight.shape), scale.reshape(num_rows, -1), -shift.reshape(num_rows, -1), bits=qtype.bits
        )

    def _qtype(self) -> Any:
        from optimum import quanto

        return quanto.qtypes[self.name]


def _group_size(in_features: int) -> int:
    """The group size that quanto's layers choose: the largest of 128, 96, 64, 32 that divides a row, or the row."""
    if in_features <= 128:
        return in_features
    return next((size for size in (128, 96, 64, 32) if in_features % size == 0), in_features)


QFLOAT8 = QuantoRows("qfloat8", FLOAT8)
QINT8 = QuantoRows("qint8", INT8)
QINT4 = QuantoGroups("qint4")
QINT2 = QuantoGroups("qint2")
