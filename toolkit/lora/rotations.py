"""OFT: a weight rotated by orthogonal blocks (Qiu et al. 2023, arXiv 2306.07280), as peft and LyCORIS write it.

Both compute the blocks R as the Cayley transform (I + Q)(I - Q)^-1 of skew-symmetric matrices Q. Here R - I is computed
instead, in fp64: it is small early in training, and the change of the weight is the weight times R - I.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RightRotation:
    """The OFT of peft, which rotates the inputs.

    Attributes:
        blocks: R - I of each block, [number, size, size], fp64; a single block applies to all groups of inputs.
    """

    blocks: Tensor
    kind: str = "OFT"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return None

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta: W R^T - W."""
        rows, columns = weight.shape
        number, size, _ = self.blocks.shape
        if columns != number * size and (number != 1 or columns % size):
            raise ValueError(
                f"has shape {[rows, columns]}, but the file is for {number * size} inputs, probably of another model"
            )
        pieces = weight.view(rows, -1, size)  # [out, number, size]
        turned = torch.einsum("onk,nck->onc", pieces, self.blocks.float().expand(pieces.shape[1], -1, -1))
        return turned.reshape(rows, columns)


@dataclass(frozen=True)
class LeftRotation:
    """The OFT of LyCORIS and sd-scripts, which rotates the outputs.

    Attributes:
        oft_blocks: matrices whose skew-symmetric parts are the Q, [number, size, size], fp64.
        constraint: largest norm of Q, divided by the number of outputs; 0 means unconstrained.
        rescale: factor applied to each output, [out, 1]; None means 1.
    """

    oft_blocks: Tensor
    constraint: float
    rescale: Tensor | None
    kind: str = "OFT"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return self.oft_blocks.shape[0] * self.oft_blocks.shape[1]

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta: rescale * R^T W - W."""
        rows, columns = weight.shape
        number, size, _ = self.oft_blocks.shape
        if rows != number * size:
            raise ValueError(
                f"has shape {[rows, columns]}, but the file is for {number * size} outputs, probably of another model"
            )
        skew = self.oft_blocks - self.oft_blocks.transpose(1, 2)
        limit, norm = self.constraint * rows, float(skew.norm()) + 1e-8
        if limit > 0 and norm > limit:
            skew = skew * (limit / norm)
        blocks = cayley_blocks(skew, num_terms=None).float()
        turned = torch.einsum("knm,knc->kmc", blocks, weight.view(number, size, -1))
        delta = turned.reshape(rows, columns)
        if self.rescale is None:
            return delta
        factor = self.rescale.float().view(rows, 1)
        return (factor - 1) * weight + factor * delta


def skew_blocks(triangles: Tensor, *, limit: float | None) -> Tensor:
    """Skew-symmetric matrices [number, size, size], fp64, from the entries above their diagonals.

    Args:
        triangles: entries above the diagonals, row by row, [number, size * (size - 1) / 2].
        limit: `eps` of peft's `coft`: the norm of each block is at most limit / sqrt(number); None for no limit.

    Raises:
        ValueError: the number of entries does not fit a triangle.
    """
    number, count = triangles.shape
    size = round((1 + (1 + 8 * count) ** 0.5) / 2)
    if size * (size - 1) // 2 != count:
        raise ValueError(f"an OFT block has {count} numbers, which do not fill the triangle of a square matrix")
    rows, columns = torch.triu_indices(size, size, 1)
    skew = torch.zeros(number, size, size, dtype=torch.float64)
    skew[:, rows, columns] = triangles.double()
    skew = skew - skew.transpose(1, 2)
    if limit is None:
        return skew
    norms = skew.norm(dim=(1, 2), keepdim=True)
    return skew * (limit / number**0.5 / norms).clamp(max=1)


def cayley_blocks(skew: Tensor, *, num_terms: int | None) -> Tensor:
    """(I + Q)(I - Q)^-1 - I of each block Q, exactly or from `num_terms` terms of the series I + 2Q + 2Q^2 + ...

    Like peft, the last term of the series is not doubled: 5 terms are I, 2Q, 2Q^2, 2Q^3 and Q^4.
    Like peft, 3 terms are computed as 4.
    """
    if num_terms is None:
        identity = torch.eye(skew.shape[1], dtype=skew.dtype)
        return 2 * torch.linalg.solve(identity - skew, skew)
    result, power = torch.zeros_like(skew), skew
    num_terms = 4 if num_terms == 3 else num_terms
    for term in range(1, num_terms):
        is_last = term == num_terms - 1 and term > 1
        result = result + (power if is_last else 2 * power)
        power = power @ skew
    return result
