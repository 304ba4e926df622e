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
    """A kind of process that job files can name. A package lists its classes in `AI_TOOLKIT_EXTENSIONS`.

    Attributes:
        uid: the value of `type` in job files.
        name: the name shown to people.
        config: the settings class, a subclass of `toolkit.config.ProcessConfig`, or its location as
            `package.module:Class`. It is imported at every start of the command line, so it must not import torch.
        jobs: the kinds of job (`job` in the file) that may contain this process.
    """

    uid: str
    name: str
    config: type[Any] | str = "toolkit.config.training_process:TrainingProcessConfig"
    jobs: tuple[str, ...] = ("extension",)

    @classmethod
    def get_process(cls) -> type[Any]:
        """The process class. Called only for types that a job uses, so put heavy imports in here."""
        raise NotImplementedError

    @classmethod
    def get_check(cls) -> Callable[[Any], Any]:
        """The function that checks whether a process of this type can run: by default, `check` of its class.

        If the class is slow to import, override this with a function of the same signature from a light module.
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
    """The package of one extension. `name` is its import name, such as `extensions.my_model`."""

    name: str
    folder: Path
    is_built_in: bool

    @property
    def has_card(self) -> bool:
        """True if it describes its models in `card.py`."""
        return (self.folder / "card.py").is_file()


@dataclass(frozen=True)
class Broken:
    """A user's extension that cannot be used, and why. Jobs that do not need it still run."""

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
    """Call `read` on a package. A failure is added to `broken` for a user's package, and raised for a built-in one."""
    try:
        return read(package)
    except Exception as error:  # third-party code may raise anything, and must not stop jobs that do not need it
        if package.is_built_in:
            raise
        broken.append(Broken(package.name, f"{type(error).__name__}: {error}"))
        return None


def exported(package: Package, name: str) -> list[type[Any]]:
    """The classes in the list that a package exports under `name`; empty if it exports none.

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
