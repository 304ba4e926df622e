"""The kinds of process that are installed: those that extensions register, each with its settings class."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from toolkit.cards import find_cards
from toolkit.config.process import ProcessConfig
from toolkit.config.reading.known import Known
from toolkit.extension import ROOTS, Broken, Extension, Package, Root, attempt, exported, find_packages


@dataclass(frozen=True)
class ProcessKind:
    """A kind of process that job files may name.

    Attributes:
        extension: the class that the extension registers for this kind.
        config: the settings class of this kind.
        is_built_in: whether this kind comes with the trainer.
    """

    extension: type[Extension]
    config: type[ProcessConfig]
    is_built_in: bool

    @property
    def jobs(self) -> tuple[str, ...]:
        """The kinds of job that may contain this process."""
        return tuple(getattr(self.extension, "jobs", Extension.jobs))


@dataclass(frozen=True)
class Processes:
    """The kinds of process by uid, and the extensions that were skipped because they are broken."""

    by_uid: Mapping[str, ProcessKind]
    broken: tuple[Broken, ...]

    def jobs(self) -> dict[str, list[str]]:
        """For each kind of job, the uids of the processes that it may contain."""
        found: dict[str, list[str]] = {}
        for uid, kind in self.by_uid.items():
            for job in kind.jobs:
                found.setdefault(job, []).append(uid)
        return found


def find_known() -> Known:
    """The models, kinds of process and kinds of job that are installed."""
    found = read_processes()
    return Known(find_cards(), {uid: kind.config for uid, kind in found.by_uid.items()}, found.jobs())


def find_processes() -> dict[str, ProcessKind]:
    """Every kind of process by its uid. If two have the same uid, the user's wins."""
    return dict(read_processes().by_uid)


def built_in_processes() -> Processes:
    """The kinds of process that come with the trainer, ignoring what the user has added or overridden."""
    return read_processes(tuple(root for root in ROOTS if root.is_built_in))


@cache
def read_processes(roots: tuple[Root, ...] = ROOTS) -> Processes:
    """The `AI_TOOLKIT_EXTENSIONS` of every package. Does not call `get_process()`."""
    by_uid: dict[str, ProcessKind] = {}
    broken: list[Broken] = []
    for package in find_packages(roots):
        for uid, kind in (attempt(_kinds_of, package, broken) or {}).items():
            by_uid.setdefault(uid, kind)
    return Processes(by_uid, tuple(broken))


def _kinds_of(package: Package) -> dict[str, ProcessKind]:
    kinds: dict[str, ProcessKind] = {}
    for extension in exported(package, "AI_TOOLKIT_EXTENSIONS"):
        has_uid = isinstance(getattr(extension, "uid", None), str)
        if not has_uid or not callable(getattr(extension, "get_process", None)):
            raise TypeError(f"{extension.__name__} in AI_TOOLKIT_EXTENSIONS needs `uid` and `get_process()`")
        kinds.setdefault(extension.uid, ProcessKind(extension, _config_of(extension), package.is_built_in))
    return kinds


def _config_of(extension: type[Any]) -> type[ProcessConfig]:
    """The settings class of an extension.

    Raises:
        TypeError: it is not a subclass of ProcessConfig, or redefines a shared key.
        Exception: anything that importing it raises.
    """
    config = getattr(extension, "config", Extension.config)
    if isinstance(config, str):
        module, _, name = config.partition(":")
        config = getattr(importlib.import_module(module), name)
    if not isinstance(config, type) or not issubclass(config, ProcessConfig):
        what = "must be a subclass of ProcessConfig, or the location of one as `package.module:Class`"
        raise TypeError(f"{extension.__name__}.config {what}; found {config!r}")
    for key, field in config.model_fields.items():
        shared = ProcessConfig.model_fields.get(key)
        if shared is None:
            is_taken = hasattr(ProcessConfig, key)  # by a method
        else:
            is_taken = (field.annotation, field.is_required()) != (shared.annotation, shared.is_required())
        if is_taken:
            raise TypeError(f"{config.__name__} redefines `{key}`, which every kind of process has: use another name")
    return config
