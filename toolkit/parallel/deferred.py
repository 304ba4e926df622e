"""Tensors that are not there yet: they have a shape and a dtype, and are made when their values are needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


class Deferred(Tensor):
    """A tensor without values, and how they will be made. What is done with it is done to the values later.

    So a model can rename, cast, join and cut weights that do not fit into memory together.
    """

    make: Callable[[], Tensor]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry an operation out on the shapes, and note it for the values."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*tree_map(_shape_only, args), **tree_map(_shape_only, kwargs))

        def made(index: int | None = None) -> Any:
            results = func(*tree_map(value_of, args), **tree_map(value_of, kwargs))
            return results if index is None else results[index]

        if isinstance(found, Tensor):
            return defer(found, made)
        if isinstance(found, tuple | list) and found and all(isinstance(one, Tensor) for one in found):
            return type(found)(defer(one, partial(made, index)) for index, one in enumerate(found))
        return found


def defer(like: Tensor, make: Callable[[], Tensor]) -> Deferred:
    """A tensor with the shape and dtype of `like` and the values that `make` will return."""
    found = torch.empty(like.shape, dtype=like.dtype, device="meta").as_subclass(Deferred)
    found.make = make
    return found


def later(tensor: Tensor) -> Deferred:
    """A tensor whose casts and joins are done only when its values are asked for."""
    return tensor if isinstance(tensor, Deferred) else defer(tensor, lambda: tensor)


def value_of(thing: Any) -> Any:
    """The tensor with its values; anything else as it is."""
    return thing.make() if isinstance(thing, Deferred) else thing


def _shape_only(thing: Any) -> Any:
    return thing.as_subclass(Tensor) if isinstance(thing, Deferred) else thing
