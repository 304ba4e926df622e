"""Counted randomness: every draw is a pure function of the job's seed, a purpose and counters."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a check draws captions, and needs no torch for that
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The source of all randomness in a job. It has no state: a resumed run draws what the first would have drawn."""

    seed: int

    def number(self, purpose: str, *counters: int | str) -> int:
        """63 uniformly random bits for a purpose (`"noise"`, `"order"`) and its counters (step, rank, sample)."""
        text = "/".join([str(self.seed), purpose, *map(str, counters)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, purpose: str, *counters: int | str) -> torch.Generator:
        """A new CPU generator, so that draws are the same on every device."""
        import torch

        return torch.Generator().manual_seed(self.number(purpose, *counters))

    def python(self, purpose: str, *counters: int | str) -> random.Random:
        """A new Python generator, for shuffling and choosing."""
        return random.Random(self.number(purpose, *counters))

    def normal(self, shape: tuple[int, ...], purpose: str, *counters: int | str) -> Tensor:
        """Samples of N(0, 1), fp32, on the CPU."""
        import torch

        return torch.randn(shape, generator=self.generator(purpose, *counters))

    def uniform(self, shape: tuple[int, ...], purpose: str, *counters: int | str) -> Tensor:
        """Samples uniform over [0, 1), fp32, on the CPU."""
        import torch

        return torch.rand(shape, generator=self.generator(purpose, *counters))
