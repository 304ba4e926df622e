"""Several runs side by side: the settings in which they differ, each as the run was started with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.config.reading.setting_changes import differences
from ui.server.jobs.job import CONFIG_FILE, Job
from ui.server.jobs.text import TextFolder
from ui.server.refusal import Refusal
from ui.server.schemas import ComparedRun, ComparedSetting, Comparison
from ui.server.views.diff import settings_of
from ui.server.views.validation import best_of
from ui.server.words import clean


def comparison_of(jobs: Sequence[Job], texts: TextFolder) -> Comparison:
    """A run whose settings cannot be read is named with the reason, and compared in all else."""
    found: list[dict[str, Any] | None] = []
    runs = []
    for job in jobs:
        settings, problem = _settings(job, texts)
        found.append(settings)
        name = clean(job.settings.name or job.folder.name)
        runs.append(ComparedRun(id=job.id, name=name, problem=problem, best=best_of(job)))
    return Comparison(runs=runs, settings=_differing(found))


def _settings(job: Job, texts: TextFolder) -> tuple[dict[str, Any] | None, str]:
    frozen = job.folder / CONFIG_FILE  # the job text may have been edited since it ran
    try:
        return settings_of(frozen if frozen.is_file() else job.text_path, texts), ""
    except Refusal as refusal:
        return None, " ".join(problem.what for problem in refusal.problems)
    except OSError:
        return None, "Its job file is gone."


def _differing(found: Sequence[dict[str, Any] | None]) -> list[ComparedSetting]:
    """Each readable run against the first of them: what none of them has changed is the same in all."""
    first = next((place for place, settings in enumerate(found) if settings is not None), None)
    if first is None:
        return []
    base = found[first]
    assert base is not None
    values: dict[str, list[str | None]] = {}
    harmless: dict[str, bool] = {}
    for place, settings in enumerate(found):
        if settings is None or place == first:
            continue
        for it in differences(base, settings):
            same: list[str | None] = [None if other is None else clean(it.before) for other in found]
            values.setdefault(it.key, same)[place] = clean(it.now)
            harmless[it.key] = it.is_harmless
    return [ComparedSetting(key=clean(key), values=row, is_harmless=harmless[key]) for key, row in values.items()]
