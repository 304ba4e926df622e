"""How to load one component: an empty module, the files that fill it, and the names between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Convert, Shapes, check_fit, converted_shapes, set_tensor, stream_into
from toolkit.weights.tensor_index import TensorIndex, index_tensors

T = TypeVar("T")


class Loadable(Protocol):
    """What a component is loaded from."""

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
    ) -> Any:
        """Bring its weights, frozen; see `stream_into`."""
        ...


@dataclass(frozen=True)
class Built:
    """A module that has its weights already, such as one that is computed and not read.

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
    ) -> Any:
        """See Loadable."""
        for name, tensor in list(self.module.state_dict().items()):
            kept_dtype = dtype if tensor.is_floating_point() else tensor.dtype
            set_tensor(self.module, name, tensor.to(device_of(name) if device_of else device, kept_dtype))
            if placed is not None:
                placed(name)
        return self.module


@dataclass(frozen=True)
class Recipe:
    """All that is needed to load a component; making one reads headers only.

    Attributes:
        module: on the meta device.
        weights: what the files hold.
        convert: from their names to the module's.
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
    ) -> Any:
        """The module with its weights, frozen; see `stream_into`."""
        stream_into(
            self.module,
            self.weights,
            convert=self.convert,
            dtype=dtype,
            device=device,
            device_of=device_of,
            placed=placed,
        )
        return self.module


@dataclass(frozen=True)
class StoredComponent:
    """A component's tensors in its files, with the names that the module gives them. Making one reads headers only.

    Attributes:
        files: where they are.
        weights: what the files hold.
        convert: from their names to the module's.
    """

    files: ComponentFiles
    weights: PlainWeights
    convert: Convert

    @cached_property
    def shapes(self) -> Shapes:
        """Of the module's tensors, by name."""
        return converted_shapes(self.weights, self.convert)

    def described(self, describe: Callable[[Shapes], T], what: str) -> T:
        """What `describe` tells by the shapes; a tensor that it looks for in vain is missing from the files.

        Args:
            describe: raises KeyError for a tensor that is not there.
            what: the component, for messages.

        Raises:
            UserError: a tensor is missing.
        """
        try:
            return describe(self.shapes)
        except KeyError as error:
            raise UserError(
                f"{self.files.path}: the {what} is not whole: {error.args[0]} is missing. Download it again."
            ) from error

    def recipe(self, kind: Any, config: Any, *, what: str, optional: Collection[str] = ()) -> Recipe:
        """How to fill a module of a diffusers class.

        Args:
            kind: the class.
            config: its configuration.
            what: the component and its model, for messages: "VAE of FLUX.1".
            optional: names that files may lack.

        Raises:
            UserError: the module cannot be made, or its tensors are not those of the files.
        """
        module = empty_module(kind.from_config, config, self.files, what=kind.__name__)
        check_fit(module, self.shapes, path=self.files.path, kind=what, optional=optional)
        return Recipe(module, self.weights, self.convert)


def read_stored(
    files: ComponentFiles, recognize: Callable[[TensorIndex, ComponentFiles], tuple[TensorIndex, Convert]]
) -> StoredComponent:
    """Index a component's files and tell their layout.

    Args:
        files: the files.
        recognize: from all tensors to those of the component, and how they are converted.

    Raises:
        UserError: the files are damaged, have no weights, or are of another model.
    """
    index, convert = recognize(index_tensors(weights_of(files)), files)
    return StoredComponent(files, PlainWeights(index), convert)


def weights_of(files: ComponentFiles) -> tuple[Path, ...]:
    """The safetensors files of a component.

    Raises:
        UserError: it has none.
    """
    if not files.weights:
        raise UserError(f"{files.path}: has no safetensors file. Download the weights.")
    return files.weights


def config_of(files: ComponentFiles) -> dict[str, Any] | None:
    """Its `config.json`; None for a single file.

    Raises:
        UserError: it cannot be read, or says that the weights are quantized.
    """
    if files.folder is None:
        return None
    path = files.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Download it again.") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: is no configuration of a model. Download it again.")
    if "quantization_config" in config:
        given = config["quantization_config"]
        method = given.get("quant_method", "an unknown method") if isinstance(given, dict) else given
        raise UserError(
            f"{files.path}: the weights were quantized by {method}, which training cannot start from. Use the bf16 "
            "weights; `model.quantize` makes them small."
        )
    return config


def empty_module(
    make: Callable[[Any], Any], config: Any, files: ComponentFiles, *, what: str, source: str = "config.json"
) -> Any:
    """A model on the meta device, frozen, in eval mode.

    Args:
        make: its class, or how that is made of a configuration.
        config: the configuration.
        files: where it comes from.
        what: the model, for messages.
        source: the configuration, for messages.

    Raises:
        UserError: a model cannot be made of `config`.
    """
    try:
        with torch.device("meta"):
            return make(config).requires_grad_(False).eval()
    except Exception as error:  # a configuration that makes no sense fails in any layer
        raise UserError(f"{files.path}: no {what} can be made of its {source} ({error}). Download it again.") from error
