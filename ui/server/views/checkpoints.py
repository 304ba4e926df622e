"""The checkpoints of a job, the valid and the others, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from toolkit.output.bundles import MANIFEST, BrokenBundle, Bundle, file_size, read_bundle, step_folders
from ui.server.jobs.files import file_id, sample_files
from ui.server.jobs.job import Job
from ui.server.schemas import Checkpoint, Checkpoints
from ui.server.views.validation import validated
from ui.server.words import clean

_MOST_SAMPLES = 8


def checkpoints_of(job: Job) -> Checkpoints:
    """All checkpoints by their manifests and sizes, the newest first; then final weights that no bundle lists."""
    pictures: dict[int, list[str]] = {}
    for sample in sample_files(job):
        pictures.setdefault(sample.step, []).append(file_id(job, sample.path))
    final = job.folder / f"{job.settings.name or job.folder.name}.safetensors"
    found: list[Checkpoint] = []
    folders = step_folders(job.folder)
    # written together with the bundle of its step, a moment before or after it
    of_final = min(folders, key=lambda place: abs(_time(final) - _time(place / MANIFEST)), default=None)
    for place in reversed(folders):
        step = int(place.name)
        try:
            bundle = read_bundle(place)
        except BrokenBundle as broken:
            found.append(_broken(broken, pictures.get(step, [])))
        else:
            found.append(
                _whole(job, bundle, final, pictures.get(step, []), is_final=final.is_file() and place == of_final)
            )
    if final.is_file() and not any(it.is_final for it in found):
        found.insert(0, _only_weights(job, final, pictures.get(job.summary.step, [])))
    rounds = validated(job)
    return Checkpoints(checkpoints=[_judged(it, *rounds.get(it.step, (None, None))) for it in found])


def _judged(found: Checkpoint, validation: str | None, mark: Literal["best", "alike"] | None) -> Checkpoint:
    return found.model_copy(update={"validation": validation, "mark": mark})


def _whole(job: Job, bundle: Bundle, final: Path, samples: list[str], *, is_final: bool) -> Checkpoint:
    weights = next((path for path in bundle.output_files if path.is_file()), None)
    shown = final if is_final else weights
    gone = [path.name for path in bundle.output_files if not path.exists()]
    why = f"Its weights were moved or deleted: {', '.join(gone)}." if gone else ""
    if not bundle.has_state:
        why = f"{why} Only the weights were kept, so a run can't resume from it.".strip()
    size = sum(file_size(path) or 0 for path in bundle.files) + (file_size(final) or 0 if is_final else 0)
    return Checkpoint(
        step=bundle.step,
        is_valid=True,
        why=clean(why),
        has_state=bundle.has_state,
        num_bytes=size,
        file=None if shown is None or shown.suffix != ".safetensors" else file_id(job, shown),
        path=clean(str(shown or bundle.folder)),
        time=_time(bundle.folder / MANIFEST),
        is_final=is_final,
        samples=samples[:_MOST_SAMPLES],
    )


def _broken(broken: BrokenBundle, samples: list[str]) -> Checkpoint:
    what = "Incomplete: " if broken.is_unfinished else "Damaged: "
    return Checkpoint(
        step=broken.step,
        is_valid=False,
        why=clean(f"{what}{broken}."),
        has_state=False,
        num_bytes=sum(file_size(path) or 0 for path in broken.folder.iterdir()) if broken.folder.is_dir() else 0,
        file=None,
        path=clean(str(broken.folder)),
        time=_time(broken.folder),
        is_final=False,
        samples=samples[:_MOST_SAMPLES],
    )


def _only_weights(job: Job, final: Path, samples: list[str]) -> Checkpoint:
    return Checkpoint(
        step=job.summary.step,
        is_valid=True,
        why="Only the weights are here, so a run can't resume from it.",
        has_state=False,
        num_bytes=file_size(final) or 0,
        file=file_id(job, final),
        path=clean(str(final)),
        time=_time(final),
        is_final=True,
        samples=samples[:_MOST_SAMPLES],
    )


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
