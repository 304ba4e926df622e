"""Where the images of a dataset come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.config.paths import ExistingDataset
from toolkit.section import Harmless, Section, Shown


class DatasetSource(Section):
    """The keys of `datasets` that name the images."""

    # Harmless because its content is compared file by file.
    folder_path: Harmless[Annotated[ExistingDataset, Shown(label="Image folder", level="basic", widget="folder")]] = (
        Field(
            description="Folder of the images and captions; or a list of them: JSON `{image path: {caption: text}}` as "
            "in ai-toolkit and kohya's trainer, JSON lines with a `file_name` and a `text`; or a `.tar` of samples, a "
            "`.parquet` or `.arrow` table, or a folder of these. The caption of `x.jpg` is in `x.txt` or `x.jpg.txt`, "
            "in any letter case, or in a `metadata.jsonl`."
        )
    )
    recursive: Annotated[bool, Shown(label="With subfolders")] = Field(
        False, description="Train on the images in subfolders too."
    )
    skip_unreadable: Annotated[Harmless[bool], Shown(label="Skip unreadable images")] = Field(
        False, description="Skip images that cannot be read instead of refusing to start."
    )
