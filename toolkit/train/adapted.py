"""The weights of a run that trains adapters, with or without a network beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from toolkit.adapters.adapter import Adapter
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.choices import LORA_SUFFIX
from toolkit.adapters.files import write_adapter
from toolkit.parallel.weight_layout import WeightLayout, WholeWeights
from toolkit.train.trainable import NetworkWeights

_ALONE = WholeWeights()
_NAME = re.compile(r"(?P<job>.+?)(?P<step>_\d{9})?")


@dataclass(frozen=True)
class NamedAdapter:
    """An adapter, with the names of its weights and of its file.

    Attributes:
        name: start of the names of its weights in checkpoints; unique in the job.
        suffix: between the job's name and the step in the name of its file; empty if it is the only file.
    """

    adapter: Adapter
    name: str
    suffix: str


class AdaptedWeights:
    """The weights of adapters, and of a network if there is one. Each is saved to its own file.

    Args:
        network: the network beside the adapters; None without one.
        named: the adapters, in the order of the job file.
        layout: where the weights are.
    """

    def __init__(
        self, network: NetworkWeights | None, named: Sequence[NamedAdapter], layout: WeightLayout = _ALONE
    ) -> None:
        self.network = network
        self.layout = layout
        self.named = tuple(named)
        self.adapters = AdapterSet(tuple(one.adapter for one in named))

    @property
    def has_dropout(self) -> bool:
        """See TrainableWeights."""
        return self.network is not None and self.network.has_dropout

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See TrainableWeights."""
        own = [(f"{one.name}.{name}", p) for one in self.named for name, p in one.adapter.named_parameters()]
        return [*(self.network.named_parameters() if self.network else ()), *own]

    def rates(self, lr: float) -> Mapping[str, float]:
        """See TrainableWeights. Adapters learn at the job's rate."""
        return self.network.rates(lr) if self.network else {}

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write each file, read it back and compare, before it replaces the old one. See TrainableWeights.

        With a network beside them, the network's file is `<job>_LoRA` and an adapter's is `<job>` and its suffix,
        as in ai-toolkit, each with the step at the end.
        """
        match = _NAME.fullmatch(base.name)
        assert match is not None
        job, step = match["job"], match["step"] or ""
        files = []
        for one in self.named:
            path = base.with_name(f"{job}{one.suffix}{step}.safetensors")
            write_adapter(path, one.adapter, dtype=dtype, metadata=metadata, layout=self.layout)
            files.append(path)
        if self.network is not None:
            files += self.network.save(base.with_name(f"{job}{LORA_SUFFIX}{step}"), dtype=dtype, metadata=metadata)
        return tuple(files)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """See TrainableWeights."""
        return self.sampled(factor, factor)

    @contextmanager
    def sampled(self, network: float, adapters: float) -> Iterator[None]:
        """See TrainableWeights."""
        own: AbstractContextManager[None] = self.network.multiplied(network) if self.network else nullcontext()
        with own, self.adapters.scaled(adapters):
            yield

    def describe(self) -> str:
        """See TrainableWeights."""
        lines = [one.adapter.describe() for one in self.named]
        return "; ".join([*lines, self.network.describe()] if self.network else lines)
