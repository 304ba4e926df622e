"""Two pretended graphics cards: run.py on devices that are not the CPU, in a process of its own.

Their tensors are those of a CPU underneath, so that results are a CPU's up to the choice of kernels, but they say that
they are on device `card:0` or `card:1`, and an operation that mixes them with each other or with tensors in host memory
fails as it does on a real card. So does reading their memory directly, and drawing with a generator of another device.

    python -m tests.pretend_card job.yaml -- --resume FOLDER other.yaml

Several command lines are separated by `--`; each job of one is run with its options, after the one before it.
Beside each job it leaves `moves.json`, how many tensors were copied from one card to the other, and `states.json`, how
often the state of a card's generator was.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from tests.contract.models import shorten_texts

NAME = "card"
NUM_CARDS = 2
TorchGenerator = torch.Generator
CPU = torch.device("cpu")
# Copies of whole tensors between the cards, by their numbers.
moves: Counter[tuple[int, int]] = Counter()
# How often the state of one's generator was given to another.
states: Counter[tuple[int, int]] = Counter()
# What may read one device and write another.
_COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
# What autocast computes in 16 bits.
_LOWERED = ("addmm", "baddbmm", "bmm", "conv2d", "linear", "matmul", "mm", "scaled_dot_product_attention")


everything, operators = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")


class CardTensor(torch.Tensor):
    """A tensor that claims to be on a card.

    torch itself, which lets a backend in Python have one device only, takes both cards for the first: what asks for a
    device in Python is told the right one, and copies between cards have a gradient of their own.

    Attributes:
        held: the tensor that it really is.
        card: number of the card.
    """

    held: Tensor
    card: int

    @staticmethod
    def __new__(cls, held: Tensor, card: int) -> CardTensor:
        tensor: CardTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=int(held.storage_offset()),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.held, tensor.card = held, card
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:
        """The card."""
        return torch.device(NAME, self.card)

    @property
    def data(self) -> Tensor:
        """The tensor without its history."""
        found: Tensor = torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]
        return found

    @data.setter
    def data(self, value: CardTensor) -> None:
        """From now on it is that memory."""
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held, self.card = value.held, value.card

    def get_device(self) -> int:
        """Number of the card."""
        return self.card

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """A copy on another device or in another number format, or the tensor itself if there is nothing to change."""
        if args and isinstance(args[0], Tensor):
            device, dtype = args[0].device, args[0].dtype
        else:
            given = {name: value for name, value in kwargs.items() if name != "copy"}
            device, dtype = torch._C._nn._parse_to(*args[:3], **given)[:2]
        if device is None or _number(device) == self.card:
            options = {name: kwargs[name] for name in ("copy", "memory_format") if name in kwargs}
            return super().to(dtype or self.dtype, **options)
        return _Move.apply(self, device, dtype or self.dtype)

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(function, args, kwargs or {})

    def tolist(self) -> Any:
        """Its numbers; torch has this for its own tensors only."""
        return self.held.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"CardTensor({self.held}, card={self.card})"


class _Move(torch.autograd.Function):
    """A copy to another card or to host memory."""

    @staticmethod
    def forward(ctx: Any, tensor: CardTensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        ctx.card, ctx.dtype, ctx.target = tensor.card, tensor.dtype, _number(device)
        return _moved(tensor, ctx.target, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _moved(gradient, ctx.card, ctx.dtype), None, None


def _moved(tensor: Tensor, card: int | None, dtype: torch.dtype) -> Tensor:
    source = tensor.card if isinstance(tensor, CardTensor) else None
    if source is not None and card is not None and tensor.dim():
        moves[source, card] += 1
    copy = _held(tensor).to(dtype, copy=True)
    return copy if card is None else CardTensor(copy, card)


class Generator(TorchGenerator):
    """Stands in for torch's own, and records the device that each claims.

    Attributes:
        cards: number of the card, or None, by where it lies; operations are given another object for the same one.
    """

    cards: ClassVar[dict[int, int | None]] = {}

    def __new__(cls, device: torch.device | str = CPU) -> Generator:
        generator = super().__new__(cls, CPU)
        cls.cards[generator._cdata] = _number(torch.device(device))  # type: ignore[attr-defined]
        return generator

    def manual_seed(self, seed: int) -> Generator:
        """Begin again."""
        super().manual_seed(seed)
        return self


_GENERATORS = (TorchGenerator, Generator)
# Kinds of arguments by what torch's own check for a tensor need not be asked, and lists: half a million calls a run.
_NO_TENSORS = (int, float, bool, type(None), list, tuple, torch.dtype, torch.device, torch.memory_format)
_LISTS = (list, tuple)


class PretendCard(TorchDispatchMode):
    """Within this, `device="card:1"` is a device."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; torch's guard against it costs a tenth of a run."""
        return False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


def _compute(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    cards = [value for value in _flat([*args, *kwargs.values()]) if type(value) is CardTensor]
    if function not in _COPIES and cards:
        if any(_is_on_host(value) for value in _flat([*args, *kwargs.values()])):
            raise RuntimeError(f"{function} mixes tensors on a card and in host memory")
        if any(tensor.card != cards[0].card for tensor in cards):
            raise RuntimeError(f"{function} mixes tensors on two cards")
    asked = kwargs.get("device")
    card = (cards[0].card if cards else None) if asked is None else _number(torch.device(asked))
    if cards and card is not None:
        card = cards[0].card  # what torch asks for is the first of the cards, see CardTensor
    if asked is not None and card is not None:
        kwargs = {**kwargs, "device": CPU}
    is_copy = function is torch.ops.aten.copy_.default
    if is_copy and len(cards) == 2 and cards[0].card != cards[1].card:
        moves[cards[1].card, cards[0].card] += 1
    for value in (*args, *kwargs.values()):
        if type(value) in _GENERATORS and Generator.cards.get(value._cdata) != card:
            raise RuntimeError(f"{function} draws with a generator of another device")
    held = [_map(_held, value) for value in args]
    result = function(*held, **{name: _map(_held, value) for name, value in kwargs.items()})
    if is_copy:
        return args[0]
    if card is None:
        return result
    own = {id(tensor.held): tensor for tensor in cards}

    def wrap(result: Any) -> Any:
        if type(result) is CardTensor or not isinstance(result, Tensor):
            return result
        same = own.get(id(result))
        return CardTensor(result, card) if same is None or same.card != card else same

    return _map(wrap, result)


def _is_on_host(value: Any) -> bool:
    """True for a tensor in host memory; one of no dimension is a number: real cards take it, too."""
    kind = type(value)
    return kind not in _NO_TENSORS and kind is not CardTensor and isinstance(value, Tensor) and value.dim() > 0


def _number(device: torch.device) -> int | None:
    """The number of a card; None for a device in host memory."""
    return (device.index or 0) if device.type == NAME else None


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The members, and those of lists among them. torch's own functions for such trees take most of a run here."""
    for value in values:
        if isinstance(value, _LISTS):
            yield from value
        else:
            yield value


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    """The same for every member of a list, or for what is no list."""
    return type(value)(map(change, value)) if isinstance(value, _LISTS) else change(value)


def _held(value: Any) -> Any:
    return value.held if type(value) is CardTensor else value


class _Module(_DummyBackendModule):
    """What torch asks a backend for."""

    def device_count(self) -> int:
        return NUM_CARDS

    def get_rng_state(self, device: torch.device | None = None) -> Any:
        return torch.tensor([(device and device.index) or 0], dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: torch.device | None = None) -> None:
        if device is not None:
            states[int(state), device.index] += 1

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


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """Lists of tensors by device and number format, as torch groups them for its optimizers and for clipping."""
    groups: dict[Any, Any] = {}
    for index, members in enumerate(zip(*lists, strict=True)):
        first = next(member for member in members if member is not None)
        found, indices = groups.setdefault((first.device, first.dtype), ([[] for _ in lists], []))
        for own, member in zip(found, members, strict=True):
            own.append(member)
        indices.append(index)
    return groups


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
    """run.py with short texts, and with `device: auto` and `device: cuda` standing for the cards; one job at a time."""
    register()
    patch = pytest.MonkeyPatch()
    shorten_texts(patch)
    patch.setattr(torch, "Generator", Generator)
    patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", _grouped)
    import run
    from jobs.process import make_model, start

    patch.setattr(make_model, "pick_device", lambda name: torch.device(NAME))
    patch.setattr(start.Start, "find_device", lambda _: NAME)
    _must_refuse_mixing()
    codes = []
    for is_end, line in itertools.groupby(arguments, key="--".__eq__):
        words = [] if is_end else list(line)
        for job in (Path(word) for word in words if word.endswith(".yaml")):
            moves.clear()
            states.clear()
            with PretendCard():
                codes.append(run.main([*(word for word in words if not word.endswith(".yaml")), str(job)]))
            for name, counts in (("moves", moves), ("states", states)):
                by_cards = {f"{source} to {target}": count for (source, target), count in counts.items()}
                job.with_name(f"{name}.json").write_text(json.dumps(by_cards), encoding="utf-8")
    return max(codes)


def _must_refuse_mixing() -> None:
    """Without this, every job would pass here."""
    with PretendCard():
        host, first, second = torch.ones(2), torch.ones(2, device=NAME), torch.ones(2, device=f"{NAME}:1")
        assert (first.device.index, second.device.index) == (0, 1)
        for one, other in ((host, first), (second, host), (first, second), (first, second.sum())):
            with pytest.raises(RuntimeError, match="mixes tensors"):
                one + other
        assert (first + second.to(first.device)).tolist() == [2, 2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
