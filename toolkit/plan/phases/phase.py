"""A part of a run, at its peak memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.step_memory import Parts


@dataclass(frozen=True)
class Phase:
    """A part of a run, at its peak memory.

    Attributes:
        name: name of the phase, such as `train`.
        stage: the stage of the run that the phase belongs to.
        device: kind of data -> bytes on the computing device; on a CPU this is RAM.
        host: kind of data -> further bytes in RAM.
        others: for each further card of a split model, kind of data -> bytes on it.
    """

    name: str
    stage: str
    device: Mapping[str, int]
    host: Mapping[str, int]
    others: tuple[Mapping[str, int], ...] = ()

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors on the device, the fullest of several: what torch reports as allocated."""
        return max(sum(parts.values()) for parts in (self.device, *self.others))


def in_ram(inputs: PlanInputs, parts: Mapping[str, int]) -> Parts:
    """What a phase has in RAM: encodings, which are there in every phase, and what it adds."""
    return {name: size for name, size in {"encodings": inputs.work.encodings, **parts}.items() if size}
