"""The LoRA update `B @ A` of one weight, and exact arithmetic with such products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from toolkit.errors import UserError

# Singular values below this fraction of the largest are rounding errors of fp32 factors.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Update:
    """The change `b @ a` of a weight; every scale is folded into `b`.

    Attributes:
        a: [rank, in].
        b: [out, rank].
    """

    a: Tensor
    b: Tensor

    @property
    def rank(self) -> int:
        """Number of rows of `a`."""
        return self.a.shape[0]

    def to(self, dtype: torch.dtype) -> Update:
        """The same update in another number format."""
        return Update(self.a.to(dtype), self.b.to(dtype))

    def delta(self) -> Tensor:
        """The full change `b @ a`, [out, in], fp32."""
        return self.b.float() @ self.a.float()


@dataclass(frozen=True)
class LoraTarget:
    """A weight that may get an update B @ A: its name in LoRA files, and the linear layers of the loaded model.

    Several modules mean that the released model fuses them into one matrix: they share A, and B is stacked in this
    order. The update then has the same shape and meaning in every program that reads the released model.
    An optional target is trained only if the job, or the file it starts from, names it.
    """

    name: str
    modules: tuple[str, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class SizedTarget(LoraTarget):
    """A LoRA target with the shape of its weight, [outputs, inputs]."""

    inputs: int = 0
    outputs: int = 0

    @classmethod
    def of(cls, target: LoraTarget, transformer: nn.Module) -> Self:
        """The target with its shape, taken from a transformer that may be on the meta device."""
        layers: list[Any] = [transformer.get_submodule(module) for module in target.modules]
        outputs = sum(layer.out_features for layer in layers)
        return cls(target.name, target.modules, target.is_optional, layers[0].in_features, outputs)


@dataclass(frozen=True)
class LayerLocation:
    """The weight of the released model, or part of it, that a layer in a file corresponds to.

    Attributes:
        target: name of the released weight (`LoraTarget.name`).
        part: index of the layer among the weight's equal row blocks.
        num_parts: number of layers that the weight fuses.
        is_swapped: whether the file has the two halves of the rows in the opposite order.
    """

    target: str
    part: int = 0
    num_parts: int = 1
    is_swapped: bool = False

    def rows(self, tensor: Tensor) -> Tensor:
        """The layer's rows of a tensor that has the rows of the whole target, in the layer's order."""
        return swap_halves(tensor) if self.is_swapped else tensor.chunk(self.num_parts, dim=0)[self.part]

    def pieces(self, update: Update) -> list[tuple[LayerLocation, Update]]:
        """The layer's update with its rows in the target's order."""
        return [(self, Update(update.a, swap_halves(update.b)) if self.is_swapped else update)]

    def shares(self) -> dict[str, float]:
        """The share of each target's rows that the layer has."""
        return {self.target: 1 / self.num_parts}


@dataclass(frozen=True)
class FusedLocation:
    """A layer of a file that stacks the rows of several targets.

    Attributes:
        targets: names of the targets, from top to bottom.
        heights: ratio of the targets' numbers of rows, such as (3, 4).
    """

    targets: tuple[str, ...]
    heights: tuple[int, ...]

    def pieces(self, update: Update) -> list[tuple[LayerLocation, Update]]:
        """The update of each target that is changed.

        Raises:
            UserError: see `check_rows`.
        """
        self.check_rows(update.b.shape[0])
        parts = zip(self.targets, split(update, len(self.targets), heights=self.heights), strict=True)
        return [(LayerLocation(target), part) for target, part in parts if part is not None]

    def check_rows(self, num_rows: int) -> None:
        """Raises UserError if this number of rows does not fit the targets."""
        if num_rows % sum(self.heights):
            raise UserError(
                f"{num_rows} rows cannot be split into {', '.join(self.targets)} in the ratio {self.heights}: the file "
                "belongs to another model."
            )

    def joined(self, updates: Mapping[str, Update]) -> Update | None:
        """The update of the whole layer; rows of targets without an update stay unchanged."""
        parts = {i: updates[target] for i, target in enumerate(self.targets) if target in updates}
        return fuse(parts, len(self.targets), heights=self.heights) if parts else None

    def shares(self) -> dict[str, float]:
        """See LayerLocation.shares."""
        return dict.fromkeys(self.targets, 1.0)


Location = LayerLocation | FusedLocation
# Finds a layer's location by any of its names; returns None for anything that is not a layer of the model.
Locate = Callable[[str], Location | None]


def updates_of(state: Mapping[str, Tensor]) -> dict[str, Update]:
    """Updates by target, from the keys `<target>.lora_A.weight` and `<target>.lora_B.weight`."""
    targets = [key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")]
    return {target: Update(state[f"{target}.lora_A.weight"], state[f"{target}.lora_B.weight"]) for target in targets}


def state_of(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    """The inverse of `updates_of`."""
    return named_pairs(updates, "{}.lora_A.weight", "{}.lora_B.weight")


def named_pairs(updates: Mapping[str, Update], a: str, b: str) -> dict[str, Tensor]:
    """A and B of each update; `a` and `b` are templates of their keys, such as `"lora_unet_{}.lora_down.weight"`."""
    state = {}
    for name, update in updates.items():
        state[a.format(name)] = update.a
        state[b.format(name)] = update.b
    return state


def kohya_pairs(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    """Like `named_pairs`, with kohya's keys: layer names with underscores, and an alpha for each layer."""
    underscored = {name.replace(".", "_"): update for name, update in updates.items()}
    state = named_pairs(underscored, "lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight")
    # fp32 whatever the weights are: bf16 cannot represent 257. Equal to the rank: the scale is in the weights.
    return state | {f"lora_unet_{name}.alpha": torch.tensor(float(u.rank)) for name, u in underscored.items()}


def swap_halves(tensor: Tensor) -> Tensor:
    """Exchange the first and second half of the rows."""
    first, second = tensor.chunk(2, dim=0)
    return torch.cat([second, first], dim=0)


def fuse(parts: Mapping[int, Update], num_parts: int, *, heights: Sequence[int] | None = None) -> Update:
    """The update of a weight that stacks `num_parts` layers, some of which may have no update.

    If all layers share A, the rank stays the same; otherwise the ranks add up and B is block diagonal.

    Args:
        parts: updates by index of the layer.
        num_parts: number of layers in the weight.
        heights: ratio of the layers' numbers of rows; None if all are equal.
    """
    heights = heights or [1] * num_parts
    one, first = next(iter(parts.items()))
    rows = [first.b.shape[0] * height // heights[one] for height in heights]
    if all(torch.equal(update.a, first.a) for update in parts.values()):
        b = [parts[i].b if i in parts else first.b.new_zeros(rows[i], first.rank) for i in range(num_parts)]
        return Update(first.a, torch.cat(b))
    blocks = [parts[i].b if i in parts else first.b.new_zeros(rows[i], 0) for i in range(num_parts)]
    return Update(torch.cat([parts[i].a for i in range(num_parts) if i in parts]), torch.block_diag(*blocks))


def split(update: Update, num_parts: int, *, heights: Sequence[int] | None = None) -> list[Update | None]:
    """The inverse of `fuse`: one update per layer, or None for a layer that is not changed."""
    heights = heights or [1] * num_parts
    parts = split_rows(update.b, heights)
    used = [(part != 0).any(dim=0) for part in parts]
    num_users = torch.stack(used).sum(dim=0)  # [rank]
    if int(num_users.max()) != 1:
        # Copies: safetensors refuses tensors that share memory.
        return [Update(update.a.clone(), part.clone()) for part in parts]
    return [
        Update(update.a[use], part[:, use]) if bool(use.any()) else None for part, use in zip(parts, used, strict=True)
    ]


def split_rows(tensor: Tensor, heights: Sequence[int]) -> tuple[Tensor, ...]:
    """Split a tensor's rows into parts in the ratio `heights`."""
    unit = tensor.shape[0] // sum(heights)
    return tensor.split([unit * height for height in heights], dim=0)


def truncated(update: Update, rank: int) -> tuple[Update, float]:
    """The nearest update of a smaller rank, and its error relative to the original (Frobenius norm).

    Source: Eckart and Young 1936; the SVD is computed on the small core between two QR decompositions.
    """
    qb, rb = torch.linalg.qr(update.b.double())  # [out, r], [r, r]
    qa, ra = torch.linalg.qr(update.a.double().T)  # [in, r], [r, r]
    u, s, vh = torch.linalg.svd(rb @ ra.T)
    lost = float(s[rank:].norm() / s.norm()) if float(s.norm()) > 0 else 0.0
    root = s[:rank].sqrt()
    b = (qb @ u[:, :rank]) * root  # [out, rank]
    a = root[:, None] * (vh[:rank] @ qa.T)  # [rank, in]
    return Update(a.to(update.a.dtype), b.to(update.b.dtype)), lost


def padded(update: Update, rank: int) -> Update:
    """The same change at a larger rank: the new rows of A and columns of B are zero."""
    a = torch.zeros(rank, update.a.shape[1], dtype=update.a.dtype)
    b = torch.zeros(update.b.shape[0], rank, dtype=update.b.dtype)
    a[: update.rank], b[:, : update.rank] = update.a, update.b
    return Update(a, b)


def resized(update: Update, rank: int) -> tuple[Update, float]:
    """The update at another rank, and the share of it that was lost (0 if the rank grows)."""
    return truncated(update, rank) if rank < update.rank else (padded(update, rank), 0.0)


def exact_rank(update: Update) -> int:
    """The smallest rank that can represent the same change up to fp32 rounding; at least 1."""
    s = singular_values(update)
    return max(1, int((s > ROUNDING * s[0]).sum()))


def singular_values(update: Update) -> Tensor:
    """The singular values of the change, in descending order, fp64; computed without forming the full matrix."""
    _, rb = torch.linalg.qr(update.b.double())
    _, ra = torch.linalg.qr(update.a.double().T)
    return torch.linalg.svdvals(rb @ ra.T)


def must_be_finite(updates: Mapping[str, Update], *, source: str) -> None:
    """Raises UserError if an update has NaN or infinity: any weight it is added to would be lost."""
    for name, update in updates.items():
        for part in (update.a, update.b):
            must_be_finite_tensor(part, name, source=source)


def must_be_finite_tensor(tensor: Tensor, name: str, *, source: str) -> None:
    """Raises UserError if a tensor has NaN or infinity."""
    if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
        raise UserError(
            f"{source}: {name} contains NaN or infinite numbers: the training that wrote the file failed, or the "
            "file is damaged. Use an earlier checkpoint."
        )


def norm(update: Update) -> float:
    """Frobenius norm of the change, computed without forming the full matrix."""
    a, b = update.a.double(), update.b.double()
    return max(0.0, float(((b.T @ b) * (a @ a.T)).sum())) ** 0.5


def distance(one: Update, other: Update) -> float:
    """Frobenius norm of the difference between two changes; NaN if either contains NaN."""
    a = torch.cat([one.a.double(), other.a.double()])
    b = torch.cat([one.b.double(), -other.b.double()], dim=1)
    _, rb = torch.linalg.qr(b)
    _, ra = torch.linalg.qr(a.T)
    return float((rb @ ra.T).norm())
