"""An optimizer's whole state as named tensors: what it keeps for each weight, and what it learns beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.optimizers.row import BLOCK

RATE = "rate_factor"  # of a group: its learning rate is so many times the job's
PLACES = "places"  # of a group: the positions of its weights among all trained weights

DOCUMENT = "json"  # what is not a tensor, as the bytes of a JSON text
_SET_BY_THE_JOB = frozenset({"params", "lr", "weight_decay", "param_names", RATE, PLACES})
_STEP = ".step"  # torch counts steps on the CPU, whatever the device of the weight
_PLAIN = (bool, int, float, str, type(None))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's whole state: tensors named `<place of the weight>.<name>`, and one with the rest as JSON.

    Of a group's settings, those are kept that differ from what the optimizer was made with: the step size that a
    Prodigy has found, the sum of weights of a schedule-free average. The others are the job's, which may change.

    Raises:
        UserError: the state holds something that cannot be stored.
    """
    weights = weights_by_place(optimizer)
    tensors: dict[str, Tensor] = {}
    writer = _Writer(tensors)
    states: dict[str, dict[str, Any]] = {}
    for place, weight in weights.items():
        for name, value in optimizer.state.get(weight, {}).items():
            key = f"{place}.{name}"
            if isinstance(value, Tensor):
                writer.keep(key, value, beside=weight)
            else:
                states.setdefault(str(place), {})[_text(name)] = writer.plain(value, key, weight)
    groups = []
    for index, group in enumerate(optimizer.param_groups):
        learned = {
            name: writer.plain(value, f"group.{index}.{name}", group["params"][0])
            for name, value in group.items()
            if name not in _SET_BY_THE_JOB and not _is_same(value, optimizer.defaults.get(name, _Nothing))
        }
        groups.append(learned)
    document = {
        "shapes": {str(place): list(weight.shape) for place, weight in weights.items()},
        "state": states,
        "groups": groups,
        "inner": sorted(writer.inner),
        "on_cpu": sorted(writer.on_cpu),
    }
    tensors[DOCUMENT] = _as_tensor(document)
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned. Values keep their dtype: 8-bit moments stay 8-bit.

    Bundles of earlier versions have no JSON: their tensors are numbered in the order of the groups.

    Raises:
        UserError: the state belongs to other weights.
    """
    state = _State.of(tensors)
    is_old = DOCUMENT not in tensors
    everything = [weight for group in optimizer.param_groups for weight in group["params"]]
    weights = dict(enumerate(everything)) if is_old else weights_by_place(optimizer)
    _must_be_of(optimizer, weights, state)
    if is_old:
        _must_fit(weights, state)
    optimizer.state.clear()
    for key in state.outer:
        place, _, name = key.partition(".")
        weight = weights[int(place)]
        optimizer.state[weight][name] = state.tensor(key, beside=weight)
    for place, values in state.document["state"].items():
        weight = weights[int(place)]
        for name, value in values.items():
            optimizer.state[weight][name] = state.plain(value, weight)
    for group, learned in zip(optimizer.param_groups, state.document["groups"], strict=False):
        for name, value in learned.items():
            group[name] = state.plain(value, group["params"][0])


def for_any_rows(document: Tensor) -> Tensor:
    """The JSON of a state whose weights are spread over other numbers of processes than when it was saved."""
    return _as_tensor({**_as_json(document), "shapes": {}})


def weights_by_place(optimizer: torch.optim.Optimizer) -> dict[int, Tensor]:
    """The weights by their position among all trained weights: groups may change when a run is resumed."""
    found: dict[int, Tensor] = {}
    for group in optimizer.param_groups:
        places = group.get(PLACES) or range(len(found), len(found) + len(group["params"]))
        found |= dict(zip(places, group["params"], strict=True))
    return dict(sorted(found.items()))


class _Nothing:
    """Differs from every value."""


class _Writer:
    """Turns values into JSON, and the tensors among them into entries of a file.

    Attributes:
        tensors: the entries.
        inner: names of entries that are part of a list, a mapping or a group.
        on_cpu: names of entries that are on the CPU though their weight is not.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.inner: set[str] = set()
        self.on_cpu: set[str] = set()

    def keep(self, key: str, value: Tensor, *, beside: Tensor) -> None:
        self.tensors[key] = value.detach()
        if value.device.type == "cpu" and beside.device.type != "cpu":
            self.on_cpu.add(key)

    def plain(self, value: Any, key: str, weight: Tensor) -> Any:
        if isinstance(value, Tensor):
            self.inner.add(key)
            self.keep(key, value, beside=weight)
            return {"tensor": key}
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, list | tuple):
            items = [self.plain(item, f"{key}.{index}", weight) for index, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, Mapping):
            return {"mapping": {_text(name): self.plain(item, f"{key}.{name}", weight) for name, item in value.items()}}
        raise UserError(f"train.optimizer: its state holds a {type(value).__name__} ({key}), which cannot be stored.")


@dataclass(frozen=True)
class _State:
    """What a writer has written.

    Attributes:
        tensors: the entries of the file.
        document: the rest.
    """

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]

    @classmethod
    def of(cls, entries: Mapping[str, Tensor]) -> _State:
        tensors = {key: value for key, value in entries.items() if key != DOCUMENT}
        empty: dict[str, Any] = {"shapes": {}, "state": {}, "groups": [], "inner": [], "on_cpu": []}
        document = _as_json(entries[DOCUMENT]) if DOCUMENT in entries else empty
        return cls(tensors, document)

    @property
    def outer(self) -> list[str]:
        """The tensors that are named after a weight."""
        inner = set(self.document["inner"])
        return [key for key in self.tensors if key not in inner]

    def tensor(self, key: str, *, beside: Tensor) -> Tensor:
        is_on_cpu = key in self.document["on_cpu"] or key.endswith(_STEP)
        return self.tensors[key].to("cpu" if is_on_cpu else beside.device, copy=True)

    def plain(self, value: Any, weight: Tensor) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "tensor":
            return self.tensor(content, beside=weight)
        if kind == "mapping":
            return {name: self.plain(item, weight) for name, item in content.items()}
        items = [self.plain(item, weight) for item in content]
        return tuple(items) if kind == "tuple" else items


def _must_be_of(optimizer: torch.optim.Optimizer, weights: Mapping[int, Tensor], state: _State) -> None:
    shapes = {place: list(weight.shape) for place, weight in weights.items()}
    for place, shape in state.document["shapes"].items():
        if shapes.get(int(place)) != shape:
            raise _of_others(f"weight {place} of shape {tuple(shape)}")
    for key in state.outer:
        place = key.partition(".")[0]
        if not (place.isascii() and place.isdecimal()) or int(place) not in shapes:
            raise _of_others(f"{key}, shape {tuple(state.tensors[key].shape)}")
    groups = state.document["groups"]
    if any(groups) and len(groups) != len(optimizer.param_groups):
        raise UserError(
            "the optimizer's state was saved by a job that has other groups of weights (learning rates or weight decay "
            "by pattern), and its step size belongs to those groups. Undo that change, or give this job another name."
        )


def _must_fit(weights: Mapping[int, Tensor], state: _State) -> None:
    """Of a bundle that says no shapes of weights: its kinds keep whole moments, or such in 8-bit blocks."""
    for key, value in state.tensors.items():
        weight = weights[int(key.partition(".")[0])]
        blocks = -(-weight.numel() // BLOCK)
        if value.numel() > 1 and value.shape not in (weight.shape, (blocks, BLOCK), (blocks, 1)):
            raise _of_others(f"{key}, shape {tuple(value.shape)}")


def _of_others(what: str) -> UserError:
    return UserError(
        f"the optimizer's state ({what}) was saved by a job that trains other weights. Undo that change, or give this "
        "job another name."
    )


def _as_tensor(document: Mapping[str, Any]) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(document).encode("ascii")), dtype=torch.uint8)


def _as_json(text: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(text.tolist()))
    return found


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise UserError(f"train.optimizer: its state has the key {name!r}, and only texts can be stored.")
    return name


def _is_same(value: Any, other: Any) -> bool:
    if isinstance(value, Tensor) or isinstance(other, Tensor):
        return isinstance(value, Tensor) and isinstance(other, Tensor) and torch.equal(value, other)
    return type(value) is type(other) and value == other
