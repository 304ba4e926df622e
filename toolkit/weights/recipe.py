"""How to load one component: an empty module, the files that fill it, and the conversion of tensor names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from toolkit.errors import UserError
from toolkit.json_files import read_json
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Convert, Rows, Shapes, check_fit, converted_shapes, set_tensor, stream_into
from toolkit.weights.tensor_index import TensorIndex, index_tensors

T = TypeVar("T")


class Loadable(Protocol):
    """Anything from which a component can be loaded."""

    @property
    def module(self) -> torch.nn.Module:
        """The component; its weights may still be on the meta device."""
        ...

    def load(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device,
        device_of: Callable[[str], torch.device] | None = None,
        placed: Callable[[str], None] | None = None,
        rows: Rows | None = None,
    ) -> Any:
        """Load the weights into the module, frozen; see `stream_into`."""
        ...


@dataclass(frozen=True)
class Built:
    """A module that already has its weights, for example because they are computed instead of read.

    Attributes:
        module: the component.
    """

    module: torch.nn.Module

    def load(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device,
        device_of: Callable[[str], torch.device] | None = None,
        placed: Callable[[str], None] | None = None,
        rows: Rows | None = None,
    ) -> Any:
        """See Loadable."""
        for name, tensor in list(self.module.state_dict().items()):
            kept_dtype = dtype if tensor.is_floating_point() else tensor.dtype
            part = tensor if rows is None else rows(name, tensor).clone()
            set_tensor(self.module, name, part.to(device_of(name) if device_of else device, kept_dtype))
            if placed is not None:
                placed(name)
        return self.module


@dataclass(frozen=True)
class Recipe:
    """Everything needed to load a component; creating one reads only file headers.

    Attributes:
        module: the component, on the meta device.
        weights: the tensors in the files.
        convert: conversion from the files' tensor names to the module's.
    """

    module: torch.nn.Module
    weights: PlainWeights
    convert: Convert

    def load(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device,
        device_of: Callable[[str], torch.device] | None = None,
        placed: Callable[[str], None] | None = None,
        rows: Rows | None = None,
    ) -> Any:
        """Load the weights and return the frozen module; see `stream_into`."""
        stream_into(
            self.module,
            self.weights,
            convert=self.convert,
            dtype=dtype,
            device=device,
            device_of=device_of,
            placed=placed,
            rows=rows,
        )
        return self.module


@dataclass(frozen=True)
class StoredComponent:
    """A component's tensors as stored, and how they map to the module. Creating one reads only file headers.

    Attributes:
        files: the component's files.
        weights: the tensors in the files.
        convert: conversion from the files' tensor names to the module's.
    """

    files: ComponentFiles
    weights: PlainWeights
    convert: Convert

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes of the module's tensors, by name."""
        return converted_shapes(self.weights, self.convert)

    def described(self, describe: Callable[[Shapes], T], what: str) -> T:
        """The result of `describe` for the shapes; a tensor that it does not find is reported as missing.

        Args:
            describe: function of the shapes that raises KeyError for a missing tensor.
            what: name of the component, for messages.

        Raises:
            UserError: a tensor is missing.
        """
        try:
            return describe(self.shapes)
        except KeyError as error:
            raise UserError(
                f"{self.files.path}: the {what} is incomplete: {error.args[0]} is missing. Download it again."
            ) from error

    def recipe(self, kind: Any, config: Any, *, what: str, optional: Collection[str] = ()) -> Recipe:
        """The recipe that fills a module of a diffusers class.

        Args:
            kind: the diffusers class.
            config: the configuration for the class.
            what: name of the component and its model, for messages, such as "VAE of FLUX.1".
            optional: names of tensors that the files may lack.

        Raises:
            UserError: the module cannot be created, or its tensors do not match those of the files.
        """
        module = empty_module(kind.from_config, config, self.files, what=kind.__name__)
        check_fit(module, self.shapes, path=self.files.path, kind=what, optional=optional)
        return Recipe(module, self.weights, self.convert)

    def part(self, name: str, module: torch.nn.Module) -> Recipe:
        """The recipe that fills one layer of a module that `recipe` has accepted, and reads nothing else.

        Args:
            name: dotted name of the layer in its module.
            module: the layer, on the meta device.
        """
        prefix = f"{name}."

        def convert(source: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
            found = self.convert(source, tensor).items()
            return {key.removeprefix(prefix): value for key, value in found if key.startswith(prefix)}

        entries = self.weights.entries.items()
        sources = {source for source, entry in entries if convert(source, torch.empty(entry.shape, device="meta"))}
        return Recipe(module, self.weights.only(sources), convert)


def read_stored(
    files: ComponentFiles, recognize: Callable[[TensorIndex, ComponentFiles], tuple[TensorIndex, Convert]]
) -> StoredComponent:
    """Index a component's files and recognise their layout.

    Args:
        files: the component's files.
        recognize: selects the component's tensors among all tensors, and the conversion of their names.

    Raises:
        UserError: the files are damaged, have no weights, or belong to another model.
    """
    index, convert = recognize(index_tensors(weights_of(files)), files)
    return StoredComponent(files, PlainWeights(index), convert)


def weights_of(files: ComponentFiles) -> tuple[Path, ...]:
    """The safetensors files of a component.

    Raises:
        UserError: the component has none.
    """
    if not files.weights:
        raise UserError(f"{files.path}: no safetensors file found. Download the weights.")
    return files.weights


def config_of(files: ComponentFiles) -> dict[str, Any] | None:
    """The component's `config.json`; None for a single file.

    Raises:
        UserError: the file cannot be read, or the weights are quantized.
    """
    if files.folder is None:
        return None
    config = read_json(files.folder / "config.json")
    if "quantization_config" in config:
        given = config["quantization_config"]
        method = given.get("quant_method", "an unknown method") if isinstance(given, dict) else given
        raise UserError(
            f"{files.path}: the weights are quantized with {method}, and training cannot start from them. Use the bf16 "
            "weights; `model.quantize` makes them small."
        )
    return config


def empty_module(
    make: Callable[[Any], Any], config: Any, files: ComponentFiles, *, what: str, source: str = "config.json"
) -> Any:
    """Create a module on the meta device, frozen and in eval mode.

    Args:
        make: class or function that creates the module from a configuration.
        config: the configuration.
        files: the files that the configuration comes from.
        what: name of the module, for messages.
        source: name of the configuration, for messages.

    Raises:
        UserError: the module cannot be created from `config`.
    """
    try:
        with torch.device("meta"):
            return make(config).requires_grad_(False).eval()
    except Exception as error:  # a senseless configuration can fail in any layer with any exception
        raise UserError(
            f"{files.path}: cannot create a {what} from its {source} ({error}). Download it again."
        ) from error
