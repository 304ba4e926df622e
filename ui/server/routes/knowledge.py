"""What the page knows of models, settings and this machine."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter

from toolkit.cards import find_cards
from toolkit.extension import REPOSITORY
from ui.server.refusal import Refusal
from ui.server.schemas import Machine, ModelInfo, Settings, SettingsChange, Trash, VariantInfo
from ui.server.services import Here
from ui.server.views.machine import machine_now

router = APIRouter(prefix="/api", tags=["knowledge"])
FORM = REPOSITORY / "ui" / "src" / "generated" / "form.json"


@router.get("/models")
def list_models() -> list[ModelInfo]:
    """The models that a job may name, those of user extensions among them."""
    return [
        ModelInfo(
            arch=card.arch,
            family=card.family,
            label=card.label,
            summary=card.summary,
            source=card.source,
            licence=card.license,
            is_gated=card.is_gated,
            num_parameters=card.num_parameters,
            capabilities=sorted(card.capabilities),
            defaults=json.loads(json.dumps(card.defaults, default=str)),
            notes=list(card.notes),
            variants=[VariantInfo(label=variant.label, advice=variant.advice) for variant in card.variants],
        )
        for card in sorted(find_cards().values(), key=lambda card: card.arch)
    ]


@router.get("/form")
def form() -> dict[str, Any]:
    """Every setting of a job as a form shows it."""
    try:
        found: dict[str, Any] = json.loads(FORM.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(409, f"{FORM} cannot be read. Run scripts/write_ui_files.py.") from error
    return found


@router.get("/machine")
def machine(here: Here) -> Machine:
    """This machine now."""
    return machine_now(here.registry, here.cards, here.options.dist)


@router.get("/trash")
def trash(here: Here) -> Trash:
    """How much room deleted jobs take."""
    return here.trash.size()


@router.delete("/trash")
def empty_trash(here: Here) -> Trash:
    """Delete what is in the trash, for good."""
    return here.trash.empty()


@router.get("/settings")
def settings(here: Here) -> Settings:
    """Settings of this installation."""
    return here.settings.read()


@router.put("/settings")
def change_settings(here: Here, body: SettingsChange) -> Settings:
    """Change settings; what is left out stays."""
    changed = here.settings.change(body)
    if body.webhook_url is not None or body.webhook_kind is not None:
        here.notifier.outbox.problem = None  # it was of the former one
    return changed
