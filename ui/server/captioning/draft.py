"""The job that captions a dataset, made from what a page has chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ui.server.actions import Actions
from ui.server.actions.output_folders import free_name
from ui.server.datasets.library import Dataset
from ui.server.refusal import Refusal
from ui.server.schemas import CaptionJobDraft, CaptionJobRequest
from ui.server.words import clean


def draft_of(request: CaptionJobRequest, dataset: Dataset, folder: Path, actions: Actions) -> CaptionJobDraft:
    """The text of the job, under a name that is free.

    Args:
        request: what was chosen.
        dataset: that it names.
        folder: for output.
        actions: know which paths may be used.
    """
    caption: dict[str, Any] = {"path_to_caption": str(dataset.folder), "model_name_or_path": request.model.strip()}
    if request.instruction.strip():
        caption["caption_prompt"] = request.instruction.strip()
    if request.has_all:
        caption["recaption"] = True
    if request.prefix:
        caption["prefix"] = request.prefix
    stem = f"{dataset.folder.name}_captions"
    name = free_name(folder, stem) or stem
    entry = {"type": "caption", "training_folder": str(folder), "caption": caption}
    tree = {"job": "extension", "config": {"name": name, "process": [entry]}}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    try:
        actions.folders.folder_of(text)
    except Refusal as refusal:
        return CaptionJobDraft(yaml=None, problems=refusal.problems)
    return CaptionJobDraft(yaml=clean(text), problems=[])
