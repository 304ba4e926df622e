"""Lets diffusers be imported without the libraries that it only takes names from, which is half of a start's time.

diffusers' modules import transformers, peft, accelerate and torch's compiler for type checks, decorators, and functions
that most runs never call. While one of its modules is imported, these names are stand-ins that load the library when
they are first used. All other importers get those libraries unchanged.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.metadata
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

_LIBRARY = "diffusers"
LATE = ("accelerate", "peft", "torch._dynamo", "transformers")
_packages_distributions = importlib.metadata.packages_distributions
_in_library = threading.local()  # depth: how many of its modules this thread is importing, one inside the other


def install() -> None:
    """Make the imports of this process light from now on, unless the environment has FULL_IMPORTS=1."""
    if os.environ.get("FULL_IMPORTS") != "1" and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def quick_imports() -> Iterator[None]:
    """For the length of a `with` block that only imports, collect no garbage. What it made is never searched again."""
    was_on, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        if len(sys.modules) > before:
            gc.freeze()
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)  # or triton complains at the end about what was not collected


class _Packages(Mapping[str, list[str]]):
    """What `importlib.metadata.packages_distributions()` says about one package, found without reading all of them.

    diffusers asks it for three packages that few have.
    """

    def __getitem__(self, package: str) -> list[str]:
        found = [dist.metadata["Name"] for dist in importlib.metadata.distributions() if _is_of(dist, package)]
        if not found:
            raise KeyError(package)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_packages_distributions())

    def __len__(self) -> int:
        return len(_packages_distributions())


def _is_of(dist: importlib.metadata.Distribution, package: str) -> bool:
    """Whether a distribution has a package at its top level."""
    if declared := dist.read_text("top_level.txt"):
        return package in declared.split()
    files = dist.read_text("RECORD")  # a line for each file, which begins with its path
    if files is None:
        return package in {file.parts[0].partition(".")[0] for file in dist.files or ()}
    return files.startswith((f"{package}/", f"{package}.")) or f"\n{package}/" in files or f"\n{package}." in files


@contextmanager
def _late_packages() -> Iterator[None]:
    """Within the `with` block, nobody reads the lists of files of all that is installed: a quarter of a second."""
    setattr(importlib.metadata, "packages_distributions", _Packages)  # noqa: B010 - a function for mypy
    try:
        yield
    finally:
        setattr(importlib.metadata, "packages_distributions", _packages_distributions)  # noqa: B010


class LateName:
    """A name of a library that is loaded when the name is called, subclassed, read from, or made part of a type."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    @property
    def real(self) -> Any:
        """What the name stands for."""
        with _apart():
            return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call what the name stands for."""
        return self.real(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        """An attribute of what the name stands for."""
        if name.startswith("__"):  # `inspect`, `typing` and others look for them in everything
            raise AttributeError(name)
        return getattr(self.real, name)

    def __instancecheck__(self, value: object) -> bool:
        """Whether a value is an instance. While the library is not loaded, none is."""
        return self._module in sys.modules and isinstance(value, self.real)

    def __subclasscheck__(self, kind: type) -> bool:
        """Whether a class is a subclass. While the library is not loaded, none is."""
        return self._module in sys.modules and issubclass(kind, self.real)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a class statement takes for the name."""
        return (self.real,)

    def __or__(self, other: Any) -> Any:
        """A type of either kind."""
        return self.real | other

    def __ror__(self, other: Any) -> Any:
        """A type of either kind."""
        return other | self.real


class _StandIn(ModuleType):
    """A module whose names are late."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version(self.__name__)
        if name.startswith("__"):
            raise AttributeError(name)
        found = _DECORATORS.get((self.__name__, name))
        return LateName(self.__name__, name) if found is None else found


class _Finder(MetaPathFinder):
    """Finds the library's modules, and stand-ins for what they import."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if _is_in(name, _LIBRARY):
            return _found(name, path, target, _run_light)
        if getattr(_in_library, "depth", 0):
            late = next((late for late in LATE if _is_in(name, late)), None)
            if late is not None and _is_awaited(late):
                return ModuleSpec(name, _StandInLoader(), is_package=True)
            return None if late is None else _found(name, path, target, _run_apart)
        return _found(name, path, target, _run_late) if name in LATE else None


def _found(name: str, path: Sequence[str] | None, target: ModuleType | None, run: Callable[..., None]) -> Any:
    """The spec of a module that is run by `run`, which gets what its loader would do and the module."""
    spec = PathFinder.find_spec(name, path, target)
    if spec is not None and spec.loader is not None:
        # not another loader: what asks modules for their source asks the loader's class
        setattr(spec.loader, "exec_module", functools.partial(run, spec.loader.exec_module))  # noqa: B010
    return spec


class _StandInLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _run_light(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a module of the library, and leave no stand-in behind for the imports of others."""
    depth = getattr(_in_library, "depth", 0)
    _in_library.depth = depth + 1
    try:
        with _late_packages() if module.__name__ == f"{_LIBRARY}.utils.import_utils" else nullcontext():
            execute(module)
        if module.__name__ == f"{_LIBRARY}.utils.peft_utils":
            for name in ("scale_lora_layers", "unscale_lora_layers"):  # each forward pass of a transformer calls them
                setattr(module, name, _unless_one(getattr(module, name)))
    finally:
        _in_library.depth = depth
        if depth == 0:
            _remove_stand_ins()


def _run_apart(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a module of a library that is loaded already, on behalf of the other one: it gets no stand-ins."""
    with _apart():
        execute(module)


@contextmanager
def _apart() -> Iterator[None]:
    """For the length of a `with` block, this thread's imports are not those of the library."""
    depth = getattr(_in_library, "depth", 0)
    _in_library.depth = 0
    if depth:
        _remove_stand_ins()
    try:
        yield
    finally:
        _in_library.depth = depth


def _run_late(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a library that is needed after all, and put its names where the stand-ins for them are."""
    execute(module)
    for user in [user for name, user in list(sys.modules.items()) if _is_in(name, _LIBRARY)]:
        classes = [value for value in list(vars(user).values()) if isinstance(value, type)]
        for place in (vars(user), *map(vars, classes)):
            for name, value in list(place.items()):
                if isinstance(value, LateName | _StandIn) and place is vars(user):
                    setattr(user, name, _settled(value, module.__name__))
                noted = value.__annotations__ if isinstance(value, FunctionType) else {}
                for key, kind in noted.items():
                    noted[key] = _settled(kind, module.__name__)


def _settled(value: Any, library: str) -> Any:
    """What a stand-in stands for, if it is in this library; others stay."""
    if isinstance(value, LateName) and _is_in(value._module, library):
        return value.real
    if isinstance(value, _StandIn) and _is_in(value.__name__, library):
        return importlib.import_module(value.__name__)
    return value


def _remove_stand_ins() -> None:
    for name in [name for name, module in list(sys.modules.items()) if isinstance(module, _StandIn)]:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if isinstance(vars(sys.modules[parent]).get(child) if parent in sys.modules else None, _StandIn):
            delattr(sys.modules[parent], child)


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_awaited(library: str) -> bool:
    """Whether a library could be loaded, and is not: one that is loaded loads its own modules."""
    loaded = sys.modules.get(library)
    return isinstance(loaded, _StandIn) or (loaded is None and _is_installed(library))


@functools.cache
def _is_installed(library: str) -> bool:
    return "." in library or PathFinder.find_spec(library) is not None


def _unless_one(scale: Callable[..., None]) -> Callable[..., None]:
    """A function that scales the LoRA layers of peft, without loading peft for a scale that changes nothing."""

    @functools.wraps(scale)
    def scale_if_needed(model: Any, weight: float | None = None) -> None:
        if weight is not None and weight != 1:
            scale(model, weight)

    return scale_if_needed


def _not_compiled(function: Callable[..., Any] | None = None, recursive: bool = True, **_: Any) -> Any:
    """Mark a function as not to be compiled, as torch itself does before its compiler is loaded."""
    from torch._compile import _disable_dynamo

    return _disable_dynamo(function, recursive)


def _as_it_is(kind: Any) -> Any:
    """Leave out the mark that a compiled graph may create such a module: none does."""
    return kind


_DECORATORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._dynamo", "disable"): _not_compiled,
    ("torch._dynamo", "allow_in_graph"): _as_it_is,
}
