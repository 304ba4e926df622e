"""Where the output of a job text goes, and what to say if that folder is taken."""

from __future__ import annotations

from pathlib import Path

from ui.server.jobs.folders import JOB_FILE
from ui.server.jobs.job import Job
from ui.server.jobs.text import TextFolder, name_key, output_folder, parsed, require_inside
from ui.server.refusal import Refusal
from ui.server.roots import Roots
from ui.server.schemas import Fix, Problem
from ui.server.words import clean

MOST_COPIES = 1000


class OutputFolders:
    """Finds the output folders of job texts."""

    def __init__(self, texts: TextFolder, roots: Roots) -> None:
        self.texts = texts
        self.roots = roots

    def folder_of(self, text: str) -> Path:
        """The output folder that a text asks for.

        Raises:
            Refusal: the text is none, or names a path outside the roots.
        """
        tree = parsed(self.texts, text)
        folder = output_folder(tree, self.roots)
        require_inside(tree, self.roots)
        return folder

    def taken(self, folder: Path, text: str) -> Problem:
        """That a folder is in use, with another name that would do."""
        what = clean(f"{folder} is already in use. Give the job another name, or open the existing job.")
        free = free_name(folder.parent, folder.name, first=2)
        key = name_key(parsed(self.texts, text))
        fix = Fix(label=f"Rename to {clean(free)}", edits={key: clean(free)}) if free else None
        return Problem(severity="error", where="config.name", what=what, fix=fix)

    def own_text(self, job: Job) -> str:
        """The text that a job is started with.

        Raises:
            Refusal: it has none, or one whose output would go elsewhere.
        """
        path = job.text_path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise Refusal(409, f"{job.folder} has no job file: neither {JOB_FILE} nor config.yaml.") from None
        if path.name != JOB_FILE:
            folder = self.folder_of(text)
            if folder != job.folder:
                what = f"If started here, its output would go to {folder}. Start it from where it was started before."
                raise Refusal(409, what)
        return text


def free_name(folder: Path, stem: str, *, first: int = 1) -> str | None:
    """The first of `stem`, `stem_2`, `stem_3` and so on, from number `first`, that a folder lacks; None if none is."""
    names = (stem if number == 1 else f"{stem}_{number}" for number in range(first, MOST_COPIES))
    return next((name for name in names if not (folder / name).exists()), None)
