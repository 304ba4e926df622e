"""OFT: a weight turned by orthogonal blocks (Qiu et al. 2023, arXiv 2306.07280), as peft and as LyCORIS write it.

Both make the blocks by Cayley's transform of skew matrices Q, (I + Q)(I - Q)^-1. Computed in fp64 as what is beside
the identity, R - I: near the start that is small, and the weight times it is the change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RightRotation:
    """peft's: it turns the inputs.

    Attributes:
        blocks: R - I, [number, size, size] in fp64; a single block stands for all.
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
            raise ValueError(f"has shape {[rows, columns]}, the file is for {number * size} inputs: another model's")
        pieces = weight.view(rows, -1, size)  # [out, number, size]
        turned = torch.einsum("onk,nck->onc", pieces, self.blocks.float().expand(pieces.shape[1], -1, -1))
        return turned.reshape(rows, columns)


@dataclass(frozen=True)
class LeftRotation:
    """That of LyCORIS and sd-scripts: it turns the outputs.

    Attributes:
        oft_blocks: of which Q is the skew part, [number, size, size] in fp64.
        constraint: largest norm of Q, per output; 0: none.
        rescale: factor of each output, [out, 1].
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
            raise ValueError(f"has shape {[rows, columns]}, the file is for {number * size} outputs: another model's")
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
    """Skew matrices [number, size, size] in fp64 from what stands above their diagonals, [number, size (size - 1) / 2].

    Args:
        triangles: row by row.
        limit: of peft's `coft`: the largest norm of a block is limit / sqrt(number); None: there is none.

    Raises:
        ValueError: so many numbers make no triangle.
    """
    number, count = triangles.shape
    size = round((1 + (1 + 8 * count) ** 0.5) / 2)
    if size * (size - 1) // 2 != count:
        raise ValueError(f"an OFT block of {count} numbers is no triangle")
    rows, columns = torch.triu_indices(size, size, 1)
    skew = torch.zeros(number, size, size, dtype=torch.float64)
    skew[:, rows, columns] = triangles.double()
    skew = skew - skew.transpose(1, 2)
    if limit is None:
        return skew
    norms = skew.norm(dim=(1, 2), keepdim=True)
    return skew * (limit / number**0.5 / norms).clamp(max=1)


def cayley_blocks(skew: Tensor, *, num_terms: int | None) -> Tensor:
    """(I + Q)(I - Q)^-1 - I of each block, exactly or by so many terms of its series I + 2Q + 2Q^2 + ...

    peft breaks the series off with a last term that counts once: 5 terms are I, 2Q, 2Q^2, 2Q^3 and Q^4.
    Where it is asked for 3 it takes 4.
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
