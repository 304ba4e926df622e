"""Models, this machine, and settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ui.server.schemas.base import Answer, Body
from ui.server.schemas.notices import Occasion, WebhookKind


class VariantInfo(Answer):
    """Other released weights of a model."""

    label: str
    advice: str


class ModelInfo(Answer):
    """A model that a job may name, from its card."""

    arch: str
    family: str
    label: str
    summary: str
    source: str
    licence: str
    is_gated: bool
    num_parameters: int
    capabilities: list[str]
    defaults: dict[str, dict[str, Any]]
    notes: list[str]
    variants: list[VariantInfo]


class GpuInfo(Answer):
    """A card, as its driver sees it now."""

    index: int
    name: str
    total_bytes: int
    used_bytes: int
    load: float | None = Field(description="0 to 1.")
    temperature_c: float | None
    power_w: float | None
    job_id: str | None = Field(description="The job of this queue that runs on it.")
    job_bytes: int | None = Field(None, description="Of those in use, what that job holds; None if it has not said.")


class DiskInfo(Answer):
    """Room in a root folder."""

    root: str
    total_bytes: int
    free_bytes: int


class Machine(Answer):
    """This machine now."""

    version: str
    hostname: str
    gpus: list[GpuInfo]
    cpu_load: float
    ram_bytes: int
    free_ram_bytes: int
    disks: list[DiskInfo]
    roots: list[str]
    broken_extensions: list[str]
    dist_is_stale: bool


class Trash(Answer):
    """`GET /api/trash`: jobs that were deleted, in every root."""

    num_jobs: int
    num_bytes: int
    oldest: float | None = Field(description="When the first of them was deleted; null if there is none.")
    days: int = Field(description="How long they are kept.")
    folders: list[str] = Field(description="Where they are.")


class Settings(Answer):
    """Settings of this installation. Secrets are written, never read."""

    training_folder: str
    default_arch: str
    has_hub_token: bool
    has_webhook: bool
    webhook_kind: WebhookKind
    webhook_on: list[Occasion] = Field(description="Which notices go to the webhook.")


class SettingsChange(Body):
    """`PUT /api/settings`: what is left out stays."""

    training_folder: str | None = Field(None, max_length=4096)
    default_arch: str | None = Field(None, max_length=128)
    hub_token: str | None = Field(None, max_length=512, description="Empty: forget it.")
    webhook_url: str | None = Field(None, max_length=2000, description="Empty: forget it.")
    webhook_kind: WebhookKind | None = None
    webhook_on: list[Occasion] | None = Field(None, max_length=8)
