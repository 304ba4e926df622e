"""What a model says of itself before it is loaded: plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelCard:
    """One arch. Every front end, check and table is made from these.

    Attributes:
        arch: the name in job files (`model.arch`).
        family: archs that share one code base, such as `flux2`.
        label: the name people know.
        summary: one sentence: what it is good for.
        source: hub id, or a folder of this repository, that `name_or_path` usually names.
        license: short name of the licence of the weights.
        is_gated: the hub asks to accept the licence first.
        divisor_px: image sides are multiples of this.
        num_parameters: of the transformer; 0 if unknown.
        capabilities: what it can do beyond text to image: `true_cfg` (a negative prompt works), `guidance_embed`,
            `references` (takes reference images).
        defaults: job settings that suit it, by section; they stand below what the job file says.
        notes: what a user should know before training it.
    """

    arch: str
    family: str
    label: str
    summary: str
    source: str
    license: str
    is_gated: bool
    divisor_px: int
    num_parameters: int
    capabilities: frozenset[str] = frozenset()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
