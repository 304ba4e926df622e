"""What a job text says, in the few words of a list; from the text alone, right or wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toolkit.config.dataset import MAX_CONTROLS
from toolkit.config.reading.locations import value_at
from toolkit.config.reading.parse import LARGEST_FILE_BYTES, parse_file
from toolkit.errors import UserError
from toolkit.extension import REPOSITORY

_MOST_BRACKETS = 2_000  # as deep as nothing that is nested in the C code may be
_PROCESS = ("config", "process", 0)
PICTURES = "pictures"  # the kind of a job that draws
CAPTIONS = "captions"  # of one that proposes captions
REFERENCE, MASK, COUNTERPART = "reference", "mask", "counterpart"  # what a file may be for a picture of a dataset


@dataclass(frozen=True)
class Partners:
    """The folders of a dataset whose files belong to its pictures, as they are written.

    Attributes:
        source: the folder of the pictures.
        folders: (`REFERENCE`, `MASK` or `COUNTERPART`, folder), in the order of a job's keys.
    """

    source: str
    folders: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class JobSettings:
    """What a list shows of a job text.

    Attributes:
        name: of the job.
        arch: of the model.
        kind: what is trained, or `PICTURES` or `CAPTIONS`.
        dataset: name of the first folder of images.
        source: that folder as it is written.
        caption_extension: of caption files, if a captioning job says so.
        steps: of the run; 0 if it does not say.
        prompts: of its samples.
        is_split: whether its model is split over all cards.
        partners: of each dataset that names folders of references, masks or counterparts.
    """

    name: str | None = None
    arch: str | None = None
    kind: str = ""
    dataset: str | None = None
    source: str | None = None
    caption_extension: str | None = None
    steps: int = 0
    prompts: tuple[str, ...] = ()
    is_split: bool = False
    partners: tuple[Partners, ...] = ()


def read_settings(path: Path) -> JobSettings:
    """Those of a job file; empty if it cannot be read."""
    try:
        return settings_of(_quickly(path) if path.suffix == ".yaml" else parse_file(path))
    except (UserError, OSError, ValueError, yaml.YAMLError, RecursionError):
        return JobSettings()


def _quickly(path: Path) -> Any:
    """The tree of a YAML file by the parser in C, where there is one: 500 of them are read when a server starts."""
    content = path.read_bytes()
    is_deep = len(content) > LARGEST_FILE_BYTES or content.count(b"[") + content.count(b"{") > _MOST_BRACKETS
    if is_deep or not hasattr(yaml, "CSafeLoader"):
        return parse_file(path)
    loader = yaml.CSafeLoader(content)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def settings_of(tree: Any) -> JobSettings:
    """Those of a parsed job."""
    source = _at(tree, *_PROCESS, "datasets", 0, "folder_path") or _at(tree, *_PROCESS, "caption", "path_to_caption")
    steps = _at(tree, *_PROCESS, "train", "steps")
    prompts = _at(tree, *_PROCESS, "sample", "samples") or _at(tree, *_PROCESS, "sample", "prompts")
    return JobSettings(
        name=_text(_at(tree, *_PROCESS, "name")) or _text(_at(tree, "config", "name")),
        arch=_text(_at(tree, *_PROCESS, "model", "arch")),
        kind=_kind(tree),
        dataset=Path(source).name if isinstance(source, str) else None,
        source=_text(source),
        caption_extension=_text(_at(tree, *_PROCESS, "caption", "caption_extension")),
        steps=steps if isinstance(steps, int) else 0,
        prompts=tuple(_prompt(prompt) for prompt in prompts) if isinstance(prompts, list) else (),
        is_split=_at(tree, *_PROCESS, "model", "split_model_over_gpus") is True,
        partners=tuple(_partners(_at(tree, *_PROCESS, "datasets"))),
    )


def folder_of(source: str) -> Path:
    """The folder that a job text names, from where jobs are started."""
    return REPOSITORY / Path(source)


def _kind(tree: Any) -> str:
    if _at(tree, "job") == "generate":
        return PICTURES
    if _at(tree, *_PROCESS, "type") == "caption":
        return CAPTIONS
    kind = str(_at(tree, *_PROCESS, "network", "type") or "lora")
    is_network = isinstance(_at(tree, *_PROCESS, "network"), dict)
    return ("LoRA" if kind == "lora" else kind) if is_network else "full fine-tune"


def _partners(datasets: Any) -> Iterator[Partners]:
    for one in datasets if isinstance(datasets, list) else ():
        source = _text(_at(one, "folder_path")) or _text(_at(one, "dataset_path"))
        controls = _at(one, "control_path")
        numbered = [_at(one, f"control_path_{number}") for number in range(1, MAX_CONTROLS + 1)]
        # numbered ones replace the list, as in `DatasetConfig.control_folders`
        references = [it for it in numbered if it] or (controls if isinstance(controls, list) else [controls])
        named = [(REFERENCE, folder) for folder in references]
        named += [(MASK, _at(one, "mask_path")), (COUNTERPART, _at(one, "unconditional_path"))]
        folders = tuple((role, folder) for role, folder in named if folder and isinstance(folder, str))
        if source and folders:
            yield Partners(source, folders)


def _at(tree: Any, *location: str | int) -> Any:
    try:
        return value_at(tree, location)
    except LookupError:
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _prompt(value: Any) -> str:
    return str(value.get("prompt", "")) if isinstance(value, dict) else str(value)
