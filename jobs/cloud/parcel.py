"""What a job needs on another machine: its files, and its text with their paths over there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from toolkit.config import JobConfig, TrainingProcessConfig
from toolkit.config.paths import must_be_hub_id_or_path
from toolkit.config.reading.placeholders import VARIABLE, redact_texts, secrets_of_environment
from toolkit.data.sources.find import list_images
from toolkit.data.sources.listing import LISTS
from toolkit.encode.storage import LATENT_CACHE, TEXT_CACHE, VIEW_CACHE
from toolkit.errors import UserError
from toolkit.files import sha256_file, sha256_json
from toolkit.section import Section

_CACHES = {LATENT_CACHE, TEXT_CACHE, VIEW_CACHE}
# Keys with a path that a run writes to, below the remote output or cache folder. All other paths are read.
_WRITTEN = {"training_folder": "{output}", "log_dir": "{output}/tensorboard", "quantize_cache": "{caches}/quantized"}


@dataclass(frozen=True)
class RemoteFolders:
    """Where things are on the other machine, as absolute POSIX paths.

    Attributes:
        data: folder for everything that a job reads.
        output: parent folder of the output folders.
        caches: folder for caches that later starts read.
    """

    data: str = "/data"
    output: str = "/output"
    caches: str = "/caches"


@dataclass(frozen=True)
class Cargo:
    """A folder or file that a job reads.

    Attributes:
        source: its path on this machine.
        target: its path below `RemoteFolders.data`. It begins with a hash of the content, so equal content is stored
            once and no job finds its files changed by another.
        files: the files of a folder, by their path in it; a single file by the empty path.
    """

    source: Path
    target: str
    files: Mapping[str, Path]

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files.values())


@dataclass(frozen=True)
class Parcel:
    """A job that can be sent.

    Attributes:
        text: the job as YAML with the paths of the other machine; secrets are still `${NAME}`.
        cargo: what the job reads.
        folders: names of the output folders below `RemoteFolders.output`, each with the folder in the job file.
        variables: environment variables that the text refers to.
    """

    text: str
    cargo: tuple[Cargo, ...]
    folders: Mapping[str, Path]
    variables: tuple[str, ...]


def pack(job: JobConfig, place: RemoteFolders) -> Parcel:
    """Find everything that a job reads on this machine, and write the job as it has to be on the other.

    Raises:
        UserError: the job has a process that does not train, two of its processes have the same output folder name,
            or a dataset is spread over this machine.
    """
    folders: dict[str, Path] = {}
    for process in job.config.process:
        if not isinstance(process, TrainingProcessConfig):
            raise UserError(
                f"{job.path}: `type: {process.type}` can run only on this machine; only training jobs can be sent."
            )
        folder = process.output_folder(job.name)
        if folders.setdefault(folder.name, folder) != folder:
            raise UserError(
                f'{job.path}: two processes write to a folder "{folder.name}": give one of them another `name`.'
            )
    cargo = _load(dict.fromkeys(path for process in job.config.process for path in _read_paths(process)))
    targets = {item.source: f"{place.data}/{item.target}" for item in cargo}
    tree = {
        "job": job.job,
        "config": {"name": job.name, "process": [_sent(process, targets, place) for process in job.config.process]},
        "meta": dict(job.meta),
    }
    safe = redact_texts(tree, secrets_of_environment(job.secrets))
    text = yaml.safe_dump(safe, sort_keys=False, allow_unicode=True, width=120)
    return Parcel(text, tuple(cargo), folders, tuple(dict.fromkeys(VARIABLE.findall(text))))


def _read_paths(section: Section) -> Iterator[Path]:
    """The paths below a section that are there and are read."""
    for key, field in type(section).model_fields.items():
        if key in _WRITTEN or key not in section.model_fields_set:
            continue
        value = getattr(section, key)
        if isinstance(value, str) and _names_source(field):
            value = Path(value)
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, Section):
                yield from _read_paths(entry)
            elif isinstance(entry, Path) and entry.exists():
                if entry.suffix in LISTS and key == "folder_path":
                    _must_be_together(entry)
                    entry = entry.parent
                yield entry.absolute()


def _names_source(field: FieldInfo) -> bool:
    """Whether a text is a hub id or a path."""
    inner = (mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ()))
    marks = (mark for mark in (*field.metadata, *inner) if isinstance(mark, AfterValidator))
    return any(mark.func is must_be_hub_id_or_path for mark in marks)


def _must_be_together(source: Path) -> None:
    folder = source.parent.resolve()
    outside = [image for image in list_images(source).images if not image.resolve().is_relative_to(folder)]
    if outside:
        raise UserError(
            f"{source}: lists {outside[0]}, which is not in the folder of the list. Only whole folders can be sent: "
            "put the images next to the list or in a folder below it, and write their paths relative to it."
        )


def _load(paths: Mapping[Path, None]) -> list[Cargo]:
    """What has to be sent. A path inside another one is sent with it, so that a dataset stays complete."""
    roots = [path for path in paths if not any(other in path.parents for other in paths)]
    return [_cargo(path) for path in roots]


def _cargo(source: Path) -> Cargo:
    files = {"": source} if source.is_file() else dict(_files(source, source, set()))
    content = sha256_json({name: sha256_file(path) for name, path in files.items()})
    return Cargo(source, f"{content[:16]}/{source.name or 'root'}", files)


def _files(folder: Path, root: Path, seen: set[Path]) -> Iterator[tuple[str, Path]]:
    """The files below a folder, by their path in `root`. Hidden ones and our caches stay; each folder counts once."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.name not in _CACHES:
                yield from _files(path, root, seen)
        elif path.is_file():
            yield path.relative_to(root).as_posix(), path


def _sent(section: Section, targets: Mapping[Path, str], place: RemoteFolders) -> dict[str, Any]:
    """The keys that a section was given, as plain values, with paths of the other machine."""
    sent: dict[str, Any] = {}
    for key, field in type(section).model_fields.items():
        if key not in section.model_fields_set:
            continue
        value = getattr(section, key)
        if isinstance(value, Path) and key in _WRITTEN:
            sent[key] = _WRITTEN[key].format(output=place.output, caches=place.caches)
        elif isinstance(value, str) and _names_source(field):
            sent[key] = _moved(Path(value), targets) or value
        else:
            sent[key] = _plain(value, targets, place)
    return sent | ({"training_folder": place.output} if isinstance(section, TrainingProcessConfig) else {})


def _plain(value: Any, targets: Mapping[Path, str], place: RemoteFolders) -> Any:
    if isinstance(value, Section):
        return _sent(value, targets, place)
    if isinstance(value, Path):
        return _moved(value, targets) or str(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner, targets, place) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, targets, place) for inner in value]
    return value


def _moved(path: Path, targets: Mapping[Path, str]) -> str | None:
    """Where a path is on the other machine; None if it is not sent."""
    absolute = path.absolute()
    for source in (absolute, *absolute.parents):
        if source in targets:
            inside = absolute.relative_to(source).as_posix()
            return targets[source] if inside == "." else f"{targets[source]}/{inside}"
    return None
