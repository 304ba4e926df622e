"""What `benchmarks.step` measures: models, sizes and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RANK = 16


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        arch: the model, a key of `transformer_build`.
        side_px: width and height of the images.
        batch: images per batch.
        model: settings of the job's `model` section.
        train: settings of the job's `train` section.
        network: settings of the job's `network` section, over a LoRA of `rank`.
        has_baseline: whether the plain loop is measured beside ours.
        rank: of the LoRA.
        card_gb: of a larger card, ours may use so much; None for all of it.
    """

    arch: str
    side_px: int
    batch: int = 1
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    has_baseline: bool = False
    rank: int = RANK
    card_gb: float | None = None

    @property
    def name(self) -> str:
        """The cell in words."""
        settings = ", ".join(f"{key} {value}" for key, value in (self.model | self.train | self.network).items())
        return (
            f"{self.arch}, {self.side_px} px, batch {self.batch}"
            + (f", rank {self.rank}" if self.rank != RANK else "")
            + (f", a card of {self.card_gb:g} GB" if self.card_gb else "")
            + (f", {settings}" if settings else "")
        )


NO_RECOMPUTE = {"gradient_checkpointing": False}
FP8 = {"quantize": True, "quantize_te": False, "qtype": "qfloat8"}
NF4 = {"quantize": True, "quantize_te": False, "qtype": "nf4"}
IN_INT8 = {"quantize": True, "quantize_te": False, "qtype": "int8", "compute": "int8"}
IN_FP8 = {"quantize": True, "quantize_te": False, "qtype": "float8", "compute": "fp8"}


def _streamed(share: float) -> dict[str, Any]:
    return {"layer_offloading": True, "layer_offloading_transformer_percent": share}


CELLS = {
    "4b-1024": Cell("flux2_klein_4b", 1024, has_baseline=True),
    "4b-512": Cell("flux2_klein_4b", 512, has_baseline=True),
    "4b-1024-keep": Cell("flux2_klein_4b", 1024, train=NO_RECOMPUTE),
    "4b-512-keep": Cell("flux2_klein_4b", 512, train=NO_RECOMPUTE),
    "4b-512-batch4": Cell("flux2_klein_4b", 512, batch=4),
    "4b-1024-fp8": Cell("flux2_klein_4b", 1024, model=FP8),
    "4b-1024-nf4": Cell("flux2_klein_4b", 1024, model=NF4),
    "4b-1024-int8-keep": Cell("flux2_klein_4b", 1024, model=IN_INT8, train=NO_RECOMPUTE),
    "4b-1024-computed-fp8-keep": Cell("flux2_klein_4b", 1024, model=IN_FP8, train=NO_RECOMPUTE),
    "4b-1024-compiled-keep": Cell("flux2_klein_4b", 1024, model={"compile": True}, train=NO_RECOMPUTE),
    "4b-256": Cell("flux2_klein_4b", 256),
    "4b-768": Cell("flux2_klein_4b", 768),
    "4b-1536": Cell("flux2_klein_4b", 1536),
    "4b-512-batch2": Cell("flux2_klein_4b", 512, batch=2),
    "4b-512-rank4": Cell("flux2_klein_4b", 512, rank=4),
    "4b-512-rank64": Cell("flux2_klein_4b", 512, rank=64),
    "4b-1024-half-streamed": Cell("flux2_klein_4b", 1024, model=_streamed(0.5)),
    "4b-1024-streamed": Cell("flux2_klein_4b", 1024, model=_streamed(1.0)),
    "4b-1024-activations": Cell("flux2_klein_4b", 1024, model={"activation_offloading": True}),
    "9b-1024": Cell("flux2_klein_9b", 1024, has_baseline=True),
    "9b-1024-keep": Cell("flux2_klein_9b", 1024, train=NO_RECOMPUTE),
    "9b-1024-fp8": Cell("flux2_klein_9b", 1024, model=FP8),
    "9b-1024-int8-keep": Cell("flux2_klein_9b", 1024, model=IN_INT8, train=NO_RECOMPUTE),
    "9b-1024-computed-fp8-keep": Cell("flux2_klein_9b", 1024, model=IN_FP8, train=NO_RECOMPUTE),
    "dev-1024": Cell("flux2", 1024),
    "dev-1024-keep": Cell("flux2", 1024, train=NO_RECOMPUTE),
    "dev-1024-int8": Cell("flux2", 1024, model=IN_INT8),
    "dev-1024-computed-fp8": Cell("flux2", 1024, model=IN_FP8),
    "dev-1024-nf4-24gb": Cell("flux2", 1024, model=NF4 | {"activation_offloading": True}, card_gb=24),
    "dev-1024-fp8": Cell("flux2", 1024, model=FP8),
    "dev-1024-nf4": Cell("flux2", 1024, model=NF4),
    "dev-512-fp8": Cell("flux2", 512, model=FP8),
    "dev-1024-half-streamed": Cell("flux2", 1024, model=FP8 | _streamed(0.5)),
    "small-256": Cell("small", 256, has_baseline=True),
    "small-256-keep": Cell("small", 256, train=NO_RECOMPUTE),
}
