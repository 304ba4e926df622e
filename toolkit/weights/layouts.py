"""Where a component's files are: a folder in diffusers layout, a bare folder, or a single file; here or on the hub."""

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
# A folder holds a component if one of these is in it; any other component, if `config.json` is.
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_SAYS_WHAT_IT_IS = {"tokenizer": _TOKENIZER, "tokenizer_2": _TOKENIZER, "scheduler": ("scheduler_config.json",)}


@dataclass(frozen=True)
class ComponentFiles:
    """The files of one component.

    Attributes:
        path: the folder or file, also its name in messages.
        folder: holds `config.json` or its like; None for a file, or shards of one, that have none beside them.
        weights: safetensors files, each tensor in one of them; empty for components without weights.
    """

    path: Path
    folder: Path | None
    weights: tuple[Path, ...]


class NotHereError(UserError):
    """The source exists and is sound, but does not hold the component."""


def find_component(
    source: str, component: str, *, single_files: Sequence[str] = (), any_file: bool = True, setting: str
) -> ComponentFiles:
    """Find the files of a component, downloading them if the source is on the hub.

    Looked for, in this order: the folder `<component>` with its configuration in it; the source itself as such a
    folder; a single file with a released name; the only safetensors file there, if `single_files` are looked for and
    `any_file` will do.

    Args:
        source: local folder or file, `owner/name` of a hub repository, or `owner/name/file.safetensors`.
        component: the name of its folder: `transformer`, `vae`, `text_encoder`, `tokenizer`, `scheduler`, ...
        single_files: names under which the component is released as one file, best first; none if it never is.
        any_file: whether the only safetensors file of a folder is the component, whatever its name.
        setting: key of the job file that names the source, for messages.

    Raises:
        NotHereError: the source does not hold the component.
        UserError: the source is absent, out of reach, incomplete or in a format that is not read.
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
    """Make sure that `find_component`, with the same arguments, will find the component, and download nothing.

    Raises:
        NotHereError: the source does not hold the component.
        UserError: the source is absent, or on the hub out of reach while the component is not in the local cache.
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
        except NotHereError:  # not in the cache, at least: `find_component` would look elsewhere, too
            raise NotHereError(str(error)) from error


def _is_whole(
    folder: Path, inner: str, component: str, single_files: Sequence[str], any_file: bool, *, setting: str
) -> bool:
    """Whether the cache of a repository has every file of the component that it says it has."""
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
    """The files that make up the component, of all that a source has; tensors alone are one file or its shards."""
    says_what_it_is = _SAYS_WHAT_IT_IS.get(component, ("config.json",))
    inside = tuple(name for name in files if PurePosixPath(name).parent == PurePosixPath(component))
    if any(PurePosixPath(name).name in says_what_it_is for name in inside):
        return inside
    root = tuple(name for name in files if "/" not in name)
    if "model_index.json" not in root and any(name in says_what_it_is for name in root):
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
        f"{setting}: {source} holds no {component}: there is no {looked}{names} in it.{several} (It has: {found}.)"
    )


def _of_file(path: Path, component: str, *, setting: str) -> ComponentFiles:
    if path.name.endswith(INDEX) and component in _WITHOUT_WEIGHTS:
        return _in_folder(path.parent, component, (), any_file=False, source=str(path.parent), setting=setting)
    if path.name.endswith(INDEX):
        return ComponentFiles(path, _folder_of(path), _shards(path))
    if path.suffix in PICKLES:
        raise UserError(_pickle(f"{setting}: {path}"))
    if component in _WITHOUT_WEIGHTS:
        raise NotHereError(f"{setting}: {path} is a single file, and a {component} is a folder. Name the folder.")
    if path.suffix not in TENSORS:
        raise UserError(
            f"{setting}: {path} is no safetensors file. Name a .safetensors file, or a folder in diffusers layout."
        )
    weights = _with_siblings(path)
    has_own_folder = len(weights) > 1 or path.parent.name == component
    return ComponentFiles(path, _folder_of(path) if has_own_folder else None, weights)


def _with_siblings(path: Path) -> tuple[Path, ...]:
    """A file, or all shards of the model that it is one of."""
    weights = tuple(path.with_name(name) for name in _all_shards(path.name))
    _must_be_there([shard.name for shard in weights if not shard.is_file()], path, len(weights))
    return weights


def _must_be_there(missing: Sequence[str], shard: Path | str, count: int) -> None:
    if missing:
        what = f"is a part of a model in {count} files, and {', '.join(missing[:3])} is not beside it"
        raise UserError(f"{shard} {what}. Download the others, or name a whole file.")


def _all_shards(name: str) -> tuple[str, ...]:
    """The names of all files of a model that this is one of, such as `model-00001-of-00004.safetensors`."""
    match = _SHARD.fullmatch(name)
    if match is None:
        return (name,)
    width, count = len(match["number"]), int(match["count"])
    return tuple(
        f"{match['stem']}-{number:0{width}}-of-{match['count']}{match['extension']}" for number in range(1, count + 1)
    )


def _folder_of(path: Path) -> Path | None:
    """The folder of a file, where it says what the file is."""
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
        raise UserError(f"{folder}: several safetensors files ({names}) and no index. Name the one to use.")
    return _with_siblings(plain[0])


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: is damaged. Download it again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index}: {len(missing)} of {len(names)} files that it names are missing, such as {missing[0]}. "
            "Download them."
        )
    return tuple(index.parent / name for name in names)


def _downloaded(source: str, component: str, single_files: Sequence[str], any_file: bool, *, setting: str) -> Path:
    repo, inner = _repository(source, setting=setting)
    wanted = _wanted(repo, inner, component, single_files, any_file, source=source, setting=setting)
    return hub.download(repo, wanted, setting=setting) / inner


def _repository(source: str, *, setting: str) -> tuple[str, str]:
    """A source on the hub as `owner/name` and the file in it, if it names one."""
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
    """Without what a folder of the hub often has besides: pickles, and the same weights again in one file."""
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
        f"{what} is a pickle file: such files can run any code when they are opened, so they are not read. "
        "Use a .safetensors file of the same weights."
    )
