"""A pretended graphics card: run.py on a device that is not the CPU, in a process of its own.

Its tensors are those of a CPU underneath, so that results are a CPU's up to the choice of kernels, but they say that
they are on device `card:0`, and an operation that mixes them with tensors in host memory fails as it does on a real
card. So does reading their memory directly, and drawing with a generator of the other device.

    python -m tests.pretend_card job.yaml
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from tests.contract.models import shorten_texts

NAME = "card"
TorchGenerator = torch.Generator
CPU = torch.device("cpu")
# What may read one device and write another.
_COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
# What autocast computes in 16 bits.
_LOWERED = ("addmm", "baddbmm", "bmm", "conv2d", "linear", "matmul", "mm", "scaled_dot_product_attention")


everything, operators = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")


class CardTensor(torch.Tensor):
    """A tensor that claims to be on the card.

    Attributes:
        held: the tensor that it really is.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> CardTensor:
        tensor: CardTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=int(held.storage_offset()),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(function, args, kwargs or {})

    def tolist(self) -> Any:
        """Its numbers; torch has this for its own tensors only."""
        return self.held.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"CardTensor({self.held})"


class Generator(TorchGenerator):
    """Stands in for torch's own, and records the device that each claims.

    Attributes:
        is_on_card: by where it lies; operations are given another object for the same one.
    """

    is_on_card: ClassVar[dict[int, bool]] = {}

    def __new__(cls, device: torch.device | str = CPU) -> Generator:
        generator = super().__new__(cls, CPU)
        cls.is_on_card[generator._cdata] = torch.device(device).type == NAME  # type: ignore[attr-defined]
        return generator

    def manual_seed(self, seed: int) -> Generator:
        """Begin again."""
        super().manual_seed(seed)
        return self


class PretendCard(TorchDispatchMode):
    """Within this, `device="card"` is a device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


def _compute(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    tensors = [value for value in _flat([*args, *kwargs.values()]) if isinstance(value, Tensor)]
    cards = [tensor for tensor in tensors if isinstance(tensor, CardTensor)]
    # A host tensor of no dimension is a number: real cards take it, too.
    hosts = [tensor for tensor in tensors if not isinstance(tensor, CardTensor) and tensor.dim() > 0]
    if cards and hosts and function not in _COPIES:
        raise RuntimeError(f"{function} mixes tensors on the card and in host memory")
    asked = kwargs.get("device")
    is_on_card = bool(cards) if asked is None else torch.device(asked).type == NAME
    if asked is not None and is_on_card:
        kwargs = {**kwargs, "device": CPU}
    own = {id(tensor.held): tensor for tensor in cards}

    def wrap(result: Any) -> Any:
        if not isinstance(result, Tensor) or isinstance(result, CardTensor):
            return result
        if id(result) in own:
            return own[id(result)]
        return CardTensor(result) if is_on_card else result

    for generator in (value for value in (*args, *kwargs.values()) if isinstance(value, TorchGenerator)):
        if Generator.is_on_card.get(generator._cdata, False) != is_on_card:  # type: ignore[attr-defined]
            raise RuntimeError(f"{function} draws with a generator of another device")
    held = [_map(_held, value) for value in args]
    result = function(*held, **{name: _map(_held, value) for name, value in kwargs.items()})
    return args[0] if function is torch.ops.aten.copy_.default else _map(wrap, result)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The members, and those of lists among them. torch's own functions for such trees take most of a run here."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    """The same for every member of a list, or for what is no list."""
    return type(value)(map(change, value)) if isinstance(value, list | tuple) else change(value)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, CardTensor) else value


class _Module(_DummyBackendModule):
    """What torch asks a backend for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


@functools.cache
def register() -> None:
    """Make the card known to torch, for the rest of the process."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) begins in host memory
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _LOWERED:
        operators.impl(name, _lowered(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")


def _lowered(function: Any) -> Callable[..., Any]:
    """The operation in autocast's precision."""

    def cast(value: Any) -> Any:
        is_exact = isinstance(value, Tensor) and value.dtype == torch.float32
        return value.to(torch.get_autocast_dtype(NAME)) if is_exact else value

    def compute(*args: Any, **kwargs: Any) -> Any:
        key = torch._C.DispatchKey.AutocastPrivateUse1  # type: ignore[attr-defined]
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
            return function(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return compute


def main(arguments: Sequence[str]) -> int:
    """run.py with short texts, and with `device: auto` and `device: cuda` standing for the card."""
    register()
    shorten_texts(pytest.MonkeyPatch())
    torch.Generator = Generator  # type: ignore[misc]
    import run
    from jobs.process import BaseSDTrainProcess, training_check

    BaseSDTrainProcess.pick_device = lambda name: torch.device(NAME)  # type: ignore[attr-defined]
    setattr(training_check, "find_device", lambda name: NAME)  # noqa: B010
    with PretendCard():
        return run.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
