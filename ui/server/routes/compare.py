"""Runs side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ui.server.refusal import Refusal
from ui.server.schemas import Comparison
from ui.server.services import Here
from ui.server.views.compare import comparison_of

router = APIRouter(prefix="/api", tags=["compare"])
_ID = "[0-9a-f]{16}"
_MOST = 4


@router.get("/compare")
def compare(
    here: Here,
    runs: Annotated[str, Query(pattern=f"^{_ID}(,{_ID}){{1,{_MOST - 1}}}$", description="2 to 4 ids, by commas.")],
) -> Comparison:
    """How the settings of runs differ, and which round of validation of each was the best."""
    ids = runs.split(",")
    if len(set(ids)) < len(ids):
        raise Refusal(422, "Choose different jobs to compare.", "runs")
    return comparison_of([here.registry.get(id_) for id_ in ids], here.actions.texts)
