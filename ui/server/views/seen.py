"""Which pictures the steps of a run have trained on, worked out from its settings and its datasets."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.config import TrainingProcessConfig, load_job
from toolkit.config.reading.installed import find_known
from toolkit.data.report.exposure import Exposure
from toolkit.data.scan import scan_job
from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.output.bundles import newest_bundle
from ui.server.datasets.album import picture_id
from ui.server.jobs.folders import job_id, stamp
from ui.server.jobs.job import CONFIG_FILE, Job
from ui.server.refusal import Refusal, from_error
from ui.server.roots import Roots
from ui.server.schemas import Seen, SeenPicture
from ui.server.words import clean

_MOST_STEPS = 1_000  # that are listed
_MOST_WALKED = 1_000_000  # batches
_KEPT = 4


@dataclass(frozen=True)
class _Known:
    exposure: Exposure
    is_same: bool | None


class SeenSteps:
    """What the steps of runs have trained on; of the last few runs it is remembered.

    Args:
        roots: pictures outside them are named, and not shown.
    """

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self._known: OrderedDict[tuple[Any, ...], _Known] = OrderedDict()

    def of(self, job: Job, step: int, picture: str) -> Seen:
        """The pictures of a step, and the steps of a picture.

        Args:
            job: the run.
            step: counted from 1; one that has not been trained yet is predicted.
            picture: file id of a picture in a dataset; empty for none.

        Raises:
            Refusal: the run has not begun, or its datasets cannot be read now.
        """
        known = self._of(job)
        shown = [
            SeenPicture(name=clean(path.name), file=self._file(path), times=times)
            for path, times in known.exposure.images(step).items()
        ]
        last = job.summary.step
        steps = self._steps(known.exposure, picture, last) if picture else []
        return Seen(
            step=step,
            last_step=last,
            is_same=known.is_same,
            pictures=shown,
            steps=steps[:_MOST_STEPS],
            num_steps=len(steps),
        )

    def _steps(self, exposure: Exposure, picture: str, last: int) -> list[int]:
        path = next((it.path for it in exposure.examples if self._file(it.path) == picture), None)
        if path is None:
            raise Refusal(404, "The run does not train on this picture.", "picture")
        if last * exposure.batches_per_step > _MOST_WALKED:
            raise Refusal(409, "The run has too many steps to list those that used a picture.", "picture")
        return exposure.steps(path, until=last)

    def _file(self, path: Path) -> str | None:
        root = self.roots.root_of(path)
        folder = Path(os.path.realpath(path.parent))
        if root is None or not folder.is_relative_to(root):
            return None
        return f"{job_id(root, folder)}-{picture_id(path.name)}"

    def _of(self, job: Job) -> _Known:
        file = job.folder / CONFIG_FILE
        if not file.is_file():
            raise Refusal(409, "The run has not started: it has no settings yet.")
        key = (job.id, stamp(file), len(job.runs), job.summary.saved)
        if key not in self._known:
            self._known[key] = self._work_out(job, file)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def _work_out(self, job: Job, file: Path) -> _Known:
        find_known()
        try:
            config = load_job(file).config.process[0]
            if not isinstance(config, TrainingProcessConfig) or config.card is None:
                raise Refusal(409, "This job doesn't train.")
            scan = scan_job(config, config.card)
        except UserError as error:
            raise Refusal(409, from_error(error)) from error
        if scan.problems or not scan.examples:
            what = f"Its datasets cannot be read as the run read them. {scan.problems[0] if scan.problems else ''}"
            raise Refusal(409, clean(what.strip()))
        bundle = newest_bundle(job.folder, is_thorough=False)[0]
        facts = bundle.manifest if bundle is not None else {}
        told = job.run.resumed.get("batches_per_step") if job.run is not None else None
        written = facts.get("batches_per_step", told)
        per_step = written if isinstance(written, int) and written > 0 else config.train.gradient_accumulation
        now = sha256_json(scan.fingerprint([dataset.folder_path for dataset in config.datasets]))
        before = facts.get("dataset_hash")
        return _Known(
            Exposure(config, scan.examples, batches_per_step=per_step), None if before is None else before == now
        )
