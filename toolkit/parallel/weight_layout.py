"""Which part of each weight this process holds: all of it, unless the weights are spread over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """The part of a weight that a process holds.

    Attributes:
        shape: shape of the whole weight.
        rows: its rows.
    """

    shape: tuple[int, ...]
    rows: slice


def rows_of(num_rows: int, position: int, count: int) -> slice:
    """The rows that one of `count` processes holds of a weight with `num_rows`, as `torch.chunk` deals them."""
    each = -(-num_rows // count)
    return slice(min(position * each, num_rows), min((position + 1) * each, num_rows))


class WeightLayout(Protocol):
    """Where weights are. All ranks call `whole`, `publish`, `any`, `gather`, `by_first` and `together` together.

    Attributes:
        is_whole: whether this process holds all of every weight, and can do everything alone.
        is_first: whether this is the process that writes what is not written in pieces.
        position: number of this process among those that hold pieces.
        count: number of processes that hold pieces.
    """

    is_whole: bool
    is_first: bool
    position: int
    count: int

    def local(self, tensor: Tensor) -> Tensor:
        """The part of a tensor that this process holds and updates, in the same memory."""
        ...

    def publish(self, weights: Sequence[Tensor]) -> None:
        """Let all processes have what each has changed of its part of weights that are whole on all of them."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """The whole tensor, gathered from all ranks if it is spread."""
        ...

    def deferred(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that can be cast, joined and cut as usual, but are gathered one by one, each in a call of `whole`."""
        ...

    def own(self, weights: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """Trained weights as an optimizer sees them: the local part of each as an ordinary parameter."""
        ...

    def is_spread(self, weight: Tensor) -> bool:
        """Whether this process holds only a part of a weight; otherwise it is whole on all of them."""
        ...

    def piece(self, weight: Tensor) -> Piece:
        """What this process holds of a weight."""
        ...

    def cut(self, num_rows: int) -> slice:
        """The rows that this process holds of a weight with so many."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether `flag` is True for at least one process that holds pieces."""
        ...

    def gather(self, text: str) -> list[str]:
        """The text of every process that holds pieces."""
        ...

    def by_first(self, work: Callable[[], T]) -> T | None:
        """What `work` returns; it is done by the first process only, while the others wait.

        Raises:
            RankFailed: on the others, if it has failed.
        """
        ...

    def together(self, work: Callable[[], T]) -> T:
        """What `work` returns, which every process does.

        Raises:
            RankFailed: if it has failed on another process only.
        """
        ...


class WholeWeights:
    """See WeightLayout: this process holds everything."""

    is_whole = True
    is_first = True
    position = 0
    count = 1

    def local(self, tensor: Tensor) -> Tensor:
        """See WeightLayout."""
        return tensor.detach()

    def publish(self, weights: Sequence[Tensor]) -> None:
        """See WeightLayout."""

    def whole(self, tensor: Tensor) -> Tensor:
        """See WeightLayout."""
        from toolkit.parallel.deferred import value_of

        value: Tensor = value_of(tensor)
        return value.detach()

    def deferred(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See WeightLayout."""
        from toolkit.parallel.deferred import later

        return {name: later(tensor) for name, tensor in tensors.items()}

    def own(self, weights: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """See WeightLayout."""
        return list(weights)

    def is_spread(self, weight: Tensor) -> bool:
        """See WeightLayout."""
        return False

    def piece(self, weight: Tensor) -> Piece:
        """See WeightLayout."""
        return Piece(tuple(weight.shape), slice(0, weight.shape[0]))

    def cut(self, num_rows: int) -> slice:
        """See WeightLayout."""
        return slice(0, num_rows)

    def any(self, flag: bool) -> bool:
        """See WeightLayout."""
        return flag

    def gather(self, text: str) -> list[str]:
        """See WeightLayout."""
        return [text]

    def by_first(self, work: Callable[[], T]) -> T | None:
        """See WeightLayout."""
        return work()

    def together(self, work: Callable[[], T]) -> T:
        """See WeightLayout."""
        return work()
