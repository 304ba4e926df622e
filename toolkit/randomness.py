"""Counted randomness: every draw is a pure function of the job's seed, a purpose and counters."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Source of all randomness of a job. It has no state: a resumed run draws what the first run would have drawn."""

    seed: int

    def number(self, purpose: str, *counters: int | str) -> int:
        """63 even bits for a purpose (`"noise"`, `"order"`) and its counters (step, rank, sample)."""
        text = "/".join([str(self.seed), purpose, *map(str, counters)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, purpose: str, *counters: int | str) -> torch.Generator:
        """A fresh CPU generator, so that a draw is the same on every device."""
        return torch.Generator().manual_seed(self.number(purpose, *counters))

    def python(self, purpose: str, *counters: int | str) -> random.Random:
        """A fresh Python generator, for orders and choices."""
        return random.Random(self.number(purpose, *counters))

    def normal(self, shape: tuple[int, ...], purpose: str, *counters: int | str) -> Tensor:
        """N(0, 1) in fp32 on the CPU."""
        return torch.randn(shape, generator=self.generator(purpose, *counters))

    def uniform(self, shape: tuple[int, ...], purpose: str, *counters: int | str) -> Tensor:
        """Even over [0, 1) in fp32 on the CPU."""
        return torch.rand(shape, generator=self.generator(purpose, *counters))
