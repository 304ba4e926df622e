"""Finds a component's files: a folder in diffusers layout, a bare folder or a single file, local or on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toolkit.errors import UserError
from toolkit.weights import hub

TENSORS = (".safetensors", ".sft")
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
INDEX = ".safetensors.index.json"
_SMALL = (".json", ".txt", ".jinja", ".model")
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d+)-of-(?P<count>\d+)(?P<extension>\.[^.]+)")
_WITHOUT_WEIGHTS = ("tokenizer", "tokenizer_2", "scheduler")
# A folder contains a component if one of its configuration files is there; `config.json` for components not listed.
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_CONFIGS = {"tokenizer": _TOKENIZER, "tokenizer_2": _TOKENIZER, "scheduler": ("scheduler_config.json",)}


@dataclass(frozen=True)
class ComponentFiles:
    """The files of one component.

    Attributes:
        path: the component's folder or file, as shown in messages.
        folder: folder with `config.json` or the like; None for a single file or shards without one beside them.
        weights: the safetensors files, each tensor in exactly one; empty for components without weights.
    """

    path: Path
    folder: Path | None
    weights: tuple[Path, ...]


class NotHereError(UserError):
    """The source exists and is intact, but does not contain the component."""


def find_component(
    source: str, component: str, *, single_files: Sequence[str] = (), any_file: bool = True, setting: str
) -> ComponentFiles:
    """Find the files of a component, downloading them if the source is on the hub.

    The first of these that exists is used: the subfolder `<component>` with its configuration; the source itself as
    such a folder; a single file with one of the names in `single_files`; the only safetensors file, if `single_files`
    is not empty and `any_file` is True.

    Args:
        source: local folder or file, `owner/name` of a hub repository, or `owner/name/file.safetensors`.
        component: folder name of the component: `transformer`, `vae`, `text_encoder`, `tokenizer`, `scheduler`, ...
        single_files: file names under which the component is released as one file, best first; empty if it never is.
        any_file: whether a folder's only safetensors file is taken for the component whatever its name.
        setting: key of the job file that names the source, for messages.

    Raises:
        NotHereError: the source does not contain the component.
        UserError: the source is missing, unreachable, incomplete or in an unsupported format.
    """
    local = Path(source).expanduser()
    if local.is_file():
        return _of_file(local, component, setting=setting)
    if not local.is_dir():
        local = _downloaded(source, component, single_files, any_file, setting=setting)
        if local.is_file():
            return _of_file(local, component, setting=setting)
    return _in_folder(local, component, single_files, any_file, source=source, setting=setting)


def reach_component(
    source: str, component: str, *, single_files: Sequence[str] = (), any_file: bool = True, setting: str
) -> None:
    """Check that `find_component` would find the component with the same arguments. Downloads nothing.

    Raises:
        NotHereError: the source does not contain the component.
        UserError: the source is missing, or the hub is unreachable and the component is not in the local cache.
    """
    if Path(source).expanduser().exists():
        find_component(source, component, single_files=single_files, any_file=any_file, setting=setting)
        return
    repo, inner = _repository(source, setting=setting)
    try:
        hub.check_access(repo, setting=setting)
        _wanted(repo, inner, component, single_files, any_file, source=source, setting=setting)
    except NotHereError:
        raise
    except UserError as error:
        cached = hub.cached_folder(repo)
        try:
            if cached is None or not _is_whole(cached, inner, component, single_files, any_file, setting=setting):
                raise
        except NotHereError:  # not in the cache: `find_component` would look elsewhere, too
            raise NotHereError(str(error)) from error


def _is_whole(
    folder: Path, inner: str, component: str, single_files: Sequence[str], any_file: bool, *, setting: str
) -> bool:
    """Whether the cached copy of a repository has all files of the component."""
    try:
        if inner:
            return (folder / inner).is_file() and bool(_of_file(folder / inner, component, setting=setting))
        found = _in_folder(folder, component, single_files, any_file, source=str(folder), setting=setting)
    except NotHereError:
        raise
    except UserError:  # a shard is missing
        return False
    return bool(found.weights) or component in _WITHOUT_WEIGHTS


def _in_folder(
    folder: Path, component: str, single_files: Sequence[str], any_file: bool, *, source: str, setting: str
) -> ComponentFiles:
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*")) if path.is_file()]
    files += [f"{component}/{path.name}" for path in sorted((folder / component).glob("*")) if path.is_file()]
    chosen = _choose(files, component, single_files, any_file, source=source, setting=setting)
    if all(name.endswith(TENSORS) for name in chosen):  # one file, or its shards
        return _of_file(folder / chosen[0], component, setting=setting)
    inner = (folder / chosen[0]).parent
    return ComponentFiles(inner, inner, () if component in _WITHOUT_WEIGHTS else _weights_in(inner))


def _choose(
    files: Sequence[str], component: str, single_files: Sequence[str], any_file: bool, *, source: str, setting: str
) -> tuple[str, ...]:
    """Those of a source's files that make up the component; only tensor files if it is one file or its shards."""
    configs = _CONFIGS.get(component, ("config.json",))
    inside = tuple(name for name in files if PurePosixPath(name).parent == PurePosixPath(component))
    if any(PurePosixPath(name).name in configs for name in inside):
        return inside
    root = tuple(name for name in files if "/" not in name)
    if "model_index.json" not in root and any(name in configs for name in root):
        return root
    tensors = [name for name in root if name.endswith(TENSORS)]
    for name in single_files:
        if name in tensors:
            return (name,)
    if single_files and any_file and len({_all_shards(name) for name in tensors}) == 1:
        return tuple(tensors)
    pickles = [name for name in (*inside, *root) if name.endswith(PICKLES)]
    if pickles and not tensors and single_files:
        raise UserError(_pickle(f"{source}: {pickles[0]}"))
    found = ", ".join(list(root)[:8]) or "nothing"
    looked = f"`{component}/config.json`" if component not in _WITHOUT_WEIGHTS else f"`{component}/`"
    names = f" or one of {', '.join(single_files)}" if single_files else ""
    several = f" It has {len(tensors)} safetensors files: name one of them." if single_files and tensors else ""
    raise NotHereError(
        f"{setting}: {source} contains no {component}: there is no {looked}{names} in it.{several} (It has: {found}.)"
    )


def _of_file(path: Path, component: str, *, setting: str) -> ComponentFiles:
    if path.name.endswith(INDEX) and component in _WITHOUT_WEIGHTS:
        return _in_folder(path.parent, component, (), any_file=False, source=str(path.parent), setting=setting)
    if path.name.endswith(INDEX):
        return ComponentFiles(path, _folder_of(path), _shards(path))
    if path.suffix in PICKLES:
        raise UserError(_pickle(f"{setting}: {path}"))
    if component in _WITHOUT_WEIGHTS:
        raise NotHereError(f"{setting}: {path} is a single file, but a {component} is a folder. Give the folder.")
    if path.suffix not in TENSORS:
        raise UserError(
            f"{setting}: {path} is not a safetensors file. Give a .safetensors file or a folder in diffusers layout."
        )
    weights = _with_siblings(path)
    has_own_folder = len(weights) > 1 or path.parent.name == component
    return ComponentFiles(path, _folder_of(path) if has_own_folder else None, weights)


def _with_siblings(path: Path) -> tuple[Path, ...]:
    """The file itself, or all shards if it is one of several."""
    weights = tuple(path.with_name(name) for name in _all_shards(path.name))
    _must_be_there([shard.name for shard in weights if not shard.is_file()], path, len(weights))
    return weights


def _must_be_there(missing: Sequence[str], shard: Path | str, count: int) -> None:
    if missing:
        what = f"is one of {count} files of a model, and {', '.join(missing[:3])} is not beside it"
        raise UserError(f"{shard} {what}. Download the missing files, or give a file with the whole model.")


def _all_shards(name: str) -> tuple[str, ...]:
    """Names of all shards of a model, given one, such as `model-00001-of-00004.safetensors`; else the name itself."""
    match = _SHARD.fullmatch(name)
    if match is None:
        return (name,)
    width, count = len(match["number"]), int(match["count"])
    return tuple(
        f"{match['stem']}-{number:0{width}}-of-{match['count']}{match['extension']}" for number in range(1, count + 1)
    )


def _folder_of(path: Path) -> Path | None:
    """The folder of a file if it has the file's configuration; else None."""
    return path.parent if path.with_name("config.json").is_file() else None


def _weights_in(folder: Path) -> tuple[Path, ...]:
    indices = sorted(folder.glob(f"*{INDEX}"))
    plain = [index for index in indices if ".fp16." not in index.name and ".bf16." not in index.name]
    if indices:
        return _shards((plain or indices)[0])
    files = sorted(path for path in folder.iterdir() if path.suffix in TENSORS)
    if not files:
        pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise UserError(_pickle(str(pickles[0])))
        return ()
    plain = [path for path in files if ".fp16." not in path.name and ".bf16." not in path.name] or files
    if len({_all_shards(path.name) for path in plain}) > 1:
        names = ", ".join(path.name for path in plain[:5])
        raise UserError(f"{folder}: several safetensors files ({names}) but no index. Give the path of the one to use.")
    return _with_siblings(plain[0])


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: the file is damaged. Download it again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index}: {len(missing)} of the {len(names)} files that it lists are missing, such as {missing[0]}. "
            "Download them."
        )
    return tuple(index.parent / name for name in names)


def _downloaded(source: str, component: str, single_files: Sequence[str], any_file: bool, *, setting: str) -> Path:
    repo, inner = _repository(source, setting=setting)
    wanted = _wanted(repo, inner, component, single_files, any_file, source=source, setting=setting)
    return hub.download(repo, wanted, setting=setting) / inner


def _repository(source: str, *, setting: str) -> tuple[str, str]:
    """Split a source on the hub into `owner/name` and the file inside it (empty if it names none)."""
    parts = source.split("/")
    if len(parts) < 2 or source.startswith((".", "/", "~")) or "\\" in source:
        raise UserError(f"{setting}: no such file or folder: {source}")
    return "/".join(parts[:2]), "/".join(parts[2:])


def _wanted(
    repo: str, inner: str, component: str, single_files: Sequence[str], any_file: bool, *, source: str, setting: str
) -> dict[str, int]:
    """The files to download, with their sizes in bytes."""
    sizes = hub.repository_files(repo, setting=setting)
    if inner:
        if inner not in sizes:
            raise UserError(f"{setting}: {repo} has no file {inner}. It has: {', '.join(list(sizes)[:8])}")
        return {name: sizes[name] for name in _named(inner, list(sizes), component)}
    files = [name for name in sizes if name.endswith((*TENSORS, *PICKLES, *_SMALL))]
    chosen = _needed(_choose(files, component, single_files, any_file, source=source, setting=setting), component)
    return {name: size for name, size in sizes.items() if name in chosen or name == "model_index.json"}


def _named(inner: str, files: Sequence[str], component: str) -> Sequence[str]:
    """The files of a repository that one of them stands for: a shard or an index brings all of its model's folder."""
    is_index = inner.endswith(INDEX)
    shards = _all_shards(inner)
    if len(shards) == 1 and not is_index:
        return shards
    beside = [name for name in files if PurePosixPath(name).parent == PurePosixPath(inner).parent]
    says_what_it_is = [name for name in beside if name.endswith(_SMALL) and not name.endswith(INDEX)]
    if is_index:
        tensors = [name for name in beside if name.endswith(TENSORS)]
        stem = inner.removesuffix(INDEX)
        of_stem = [name for name in tensors if (match := _SHARD.fullmatch(name)) and match["stem"] == stem]
        shards = () if component in _WITHOUT_WEIGHTS else tuple(of_stem or tensors)
        return (inner, *says_what_it_is, *shards)
    _must_be_there([PurePosixPath(name).name for name in shards if name not in beside], inner, len(shards))
    return (*says_what_it_is, *shards)


def _needed(chosen: Sequence[str], component: str) -> set[str]:
    """The files without common duplicates on the hub: pickles, and the same weights again as a single file."""
    tensors = [name for name in chosen if name.endswith(TENSORS)]
    if component in _WITHOUT_WEIGHTS:
        left_out = {name for name in chosen if name.endswith((*TENSORS, *PICKLES))}
    else:
        left_out = {name for name in chosen if tensors and name.endswith(PICKLES)}
        if any(name.endswith(INDEX) for name in chosen):
            left_out |= {name for name in tensors if not _SHARD.fullmatch(name)}
    return set(chosen) - left_out


def _pickle(what: str) -> str:
    return (
        f"{what} is a pickle file. Such files can run arbitrary code when they are opened, so they are not read. "
        "Use a .safetensors file with the same weights."
    )
