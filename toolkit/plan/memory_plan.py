"""Predicts the peak memory of each phase of a run before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from toolkit.plan.cards.shares import choose_split, shares_of
from toolkit.plan.phases.encode import encode_images, encode_text, encode_views
from toolkit.plan.phases.phase import Phase
from toolkit.plan.phases.training import load, sample, save, score, train, validate
from toolkit.plan.plan_inputs import PlanInputs

# Memory of the driver for a process, its kernels and library handles; 0.4 to 0.7 GB on recent cards.
CONTEXT_BYTES = 700_000_000
# What torch allocates for cuBLAS to work in: twice 32 MB on Hopper, less on older cards.
CUBLAS_BYTES = 70_000_000
# Gaps between short-lived tensors. Weights are allocated once, in large pieces, and leave almost no gaps.
GAPS_SHARE = 0.05
# Python, torch, diffusers and transformers; CUDA's libraries add to them: 1.8 GB in all were seen on an H100.
PROCESS_BYTES = {"cpu": 455_000_000, "mps": 455_000_000, "cuda": 2_200_000_000}
_WEIGHTS = (
    "weights",
    "gathered weights",
    "assistant LoRA",
    "LoRAs",
    "VAE",
    "weights of samples",
    "LoRA",
    "adapters",
    "optimizer",
    "average",
    "ring",
    "cuBLAS",
)


@dataclass(frozen=True)
class Plan:
    """The memory plan of a run.

    Attributes:
        inputs: what the plan was computed from.
        phases: the phases of the run, in order.
        split: the number of blocks on each card of a model that is split over several; None if it is not.
    """

    inputs: PlanInputs
    phases: tuple[Phase, ...]
    split: tuple[int, ...] | None = None

    def gpu_bytes(self, phase: Phase) -> int:
        """GPU memory that a phase takes on its fullest card; 0 on a CPU."""
        return max(self.card_bytes(phase))

    def card_bytes(self, phase: Phase) -> tuple[int, ...]:
        """Memory that a phase takes on each card; 0 on a CPU."""
        return tuple(0 if self.inputs.device == "cpu" else used_bytes(parts) for parts in (phase.device, *phase.others))

    def ram_bytes(self, phase: Phase) -> int:
        """RAM that a phase takes."""
        own = phase.tensor_bytes if self.inputs.device == "cpu" else 0
        return own + sum(phase.host.values()) + PROCESS_BYTES[self.inputs.device]

    @property
    def peak_gpu_bytes(self) -> int:
        """Peak GPU memory of the run, on the fullest of several cards."""
        return max(self.card_peaks)

    @property
    def card_peaks(self) -> tuple[int, ...]:
        """Peak memory of each card of the run."""
        return tuple(map(max, zip(*map(self.card_bytes, self.phases), strict=True)))

    @property
    def peak_ram_bytes(self) -> int:
        """Peak RAM of the run."""
        return max(map(self.ram_bytes, self.phases))

    def stage_peaks(self) -> dict[str, tuple[int, int]]:
        """Stage name -> (peak RAM, peak of tensors on the card), to be compared with what is measured."""
        peaks: dict[str, tuple[int, int]] = {}
        for phase in self.phases:
            ram, gpu = peaks.get(phase.stage, (0, 0))
            tensors = 0 if self.inputs.device == "cpu" else phase.tensor_bytes
            peaks[phase.stage] = (max(ram, self.ram_bytes(phase)), max(gpu, tensors))
        return peaks


def make_plan(inputs: PlanInputs) -> Plan:
    """Compute the plan of a run. Pure arithmetic: no weights are read."""
    views = [encode_views(inputs)] if inputs.work.view_parameters else []
    work = inputs.work
    pictures = [encode_images(inputs)] if inputs.trains or work.validate_px else []
    between = [*([validate] if work.validate_px else []), *([sample] if work.sample_px else [])]
    between += [score] if work.score_parameters else []
    with_transformer = [load, train, *between, save] if inputs.trains else [load, *between]
    phases = [encode_text(inputs), *pictures, *views, *(phase(inputs) for phase in with_transformer)]
    split = None
    if inputs.cards:
        split = choose_split(inputs, lambda share: used_bytes((train if inputs.trains else sample)(share).device))
        shares = shares_of(inputs, split)
        phases[-len(with_transformer) :] = [_split(phase, inputs, shares) for phase in with_transformer]
        phases = [phase if phase.others else replace(phase, others=({},) * (len(split) - 1)) for phase in phases]
    return Plan(inputs, tuple(map(_with_cublas, phases)) if inputs.device == "cuda" else tuple(phases), split)


def used_bytes(parts: Mapping[str, int]) -> int:
    """Memory of a card that a process takes for these kinds of data; 0 if it has nothing there."""
    if not parts:
        return 0
    gaps = sum(size for name, size in parts.items() if name not in _WEIGHTS) * GAPS_SHARE
    return round(sum(parts.values()) + gaps + CONTEXT_BYTES)


def _split(make: Callable[[PlanInputs], Phase], inputs: PlanInputs, shares: tuple[PlanInputs, ...]) -> Phase:
    """A phase on several cards; what is in RAM is that of the whole model."""
    first, *others = (make(share).device for share in shares)
    return replace(make(inputs), device=first, others=tuple(others))


def _with_cublas(phase: Phase) -> Phase:
    first, *others = ({**parts, "cuBLAS": CUBLAS_BYTES} if parts else parts for parts in (phase.device, *phase.others))
    return replace(phase, device=first, others=tuple(others))
