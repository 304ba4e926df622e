"""How extensions are found: packages under `extensions/` (the user's) before those under `extensions_built_in/`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


class Extension:
    """A kind of process for job files. A package lists its classes in `AI_TOOLKIT_EXTENSIONS`.

    Attributes:
        uid: what job files say under `type`.
        name: what people read.
        config: its settings, a subclass of `toolkit.config.ProcessConfig`, or where that is, as `package.module:Class`.
            It is read at every start of the command line, so it must not import torch.
        jobs: the kinds of job (`job` in the file) that may hold it.
    """

    uid: str
    name: str
    config: type[Any] | str = "toolkit.config.training_process:TrainingProcessConfig"
    jobs: tuple[str, ...] = ("extension",)

    @classmethod
    def get_process(cls) -> type[Any]:
        """The process class. Called for the type that a job uses only, so import what is heavy in here."""
        raise NotImplementedError

    @classmethod
    def get_check(cls) -> Callable[[Any], Any]:
        """What finds out whether a process of this type can work: the `check` of its class.

        A type whose class is slow to import names a function of the same form that is not.
        """
        check: Callable[[Any], Any] = cls.get_process().check
        return check


@dataclass(frozen=True)
class Root:
    """A folder of extension packages, importable as the namespace `package`."""

    package: str
    folder: Path
    is_built_in: bool


@dataclass(frozen=True)
class Package:
    """One extension. `name` is its import name, such as `extensions.my_model`."""

    name: str
    folder: Path
    is_built_in: bool

    @property
    def has_card(self) -> bool:
        """True if it describes its models in `card.py`."""
        return (self.folder / "card.py").is_file()


@dataclass(frozen=True)
class Broken:
    """A user's extension that could not be used, and why. Jobs that do not need it run all the same."""

    package: str
    reason: str

    def __str__(self) -> str:
        return f"Extension {self.package} is broken and was skipped. {self.reason}"


REPOSITORY = Path(__file__).resolve().parent.parent
ROOTS = (
    Root("extensions", REPOSITORY / "extensions", is_built_in=False),
    Root("extensions_built_in", REPOSITORY / "extensions_built_in", is_built_in=True),
)


def find_packages(roots: tuple[Root, ...] = ROOTS) -> list[Package]:
    """The packages directly in the roots, and those one folder deeper that have a `card.py`; the user's first."""
    found = []
    for root in roots:
        for module in pkgutil.iter_modules([str(root.folder)]):
            package = Package(f"{root.package}.{module.name}", root.folder / module.name, root.is_built_in)
            found.append(package)
            for inner in pkgutil.iter_modules([str(package.folder)]):
                deeper = Package(f"{package.name}.{inner.name}", package.folder / inner.name, root.is_built_in)
                if inner.ispkg and deeper.has_card:
                    found.append(deeper)
    return found


def attempt(read: Callable[[Package], T], package: Package, broken: list[Broken]) -> T | None:
    """What `read` makes of the package. If a user's package fails, that goes to `broken`; a fault in ours is raised."""
    try:
        return read(package)
    except Exception as error:  # a stranger's code may raise anything, and must not stop jobs that do without it
        if package.is_built_in:
            raise
        broken.append(Broken(package.name, f"{type(error).__name__}: {error}"))
        return None


def exported(package: Package, name: str) -> list[type[Any]]:
    """The classes in a list that the package exports, or none if it has no such list.

    Raises:
        TypeError: the list holds something that is not a class.
    """
    classes = list(getattr(import_package(package), name, ()))
    for entry in classes:
        if not isinstance(entry, type):
            raise TypeError(f"{name} must list classes, found {entry!r}")
    return classes


def import_package(package: Package, module: str = "") -> ModuleType:
    """The package, or a module inside it."""
    return importlib.import_module(f"{package.name}.{module}" if module else package.name)
