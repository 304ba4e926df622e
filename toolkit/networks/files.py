"""The file of a network: written, read back and compared, and loaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from toolkit.config import NetworkConfig
from toolkit.errors import UserError
from toolkit.lora.keys import Layer, sort_keys
from toolkit.lora.layer_rows import Roles, by_target, cut, folded
from toolkit.lora.update import (
    LayerLocation,
    Location,
    SizedTarget,
    Update,
    swap_halves,
    updates_of,
)
from toolkit.lora.verify import WRITTEN_AS, not_saved, verify
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.networks.fit import fit
from toolkit.networks.names import LYCORIS, named_tensors
from toolkit.networks.part import Part
from toolkit.weights.tensor_files import read_tensors


@dataclass(frozen=True)
class NetworkFile:
    """What a file of a network has to say: its parts, and the model that they are for.

    Attributes:
        model: the model, which need not be loaded.
        targets: the chosen weights of the released model.
        parts: what is trained at each target, by the target's name.
    """

    model: BaseModel
    targets: Sequence[SizedTarget]
    parts: Mapping[str, Part]

    def tensors(self, dtype: torch.dtype, file_format: str) -> StateDict:
        """See Network.state_dict."""
        state, others, whole = StateDict(), StateDict(), self.model.layout.whole
        for target in self.targets:
            part = self.parts[target.name]
            update = part.update(whole)
            if update is not None:
                state[f"{target.name}.lora_A.weight"] = update.a.to(dtype)
                state[f"{target.name}.lora_B.weight"] = self._in_released_order(target, update).b.to(dtype)
            else:
                roles = {role: tensor.to(dtype) for role, tensor in part.tensors(whole).items()}
                others |= named_tensors(self.model, target, roles, file_format)
        loras = self.model.convert_lora_weights_before_save(state, file_format) if state else {}
        return {**loras, **others}

    def updates(self) -> dict[str, Update]:
        """See Network.updates."""
        found: dict[str, Update] = {}
        for target in self.targets:
            update = self.parts[target.name].update(self.model.layout.whole)
            if update is not None:
                rows = update.b.cpu().chunk(len(target.modules))
                found |= {name: Update(update.a.cpu(), b) for name, b in zip(target.modules, rows, strict=True)}
        return found

    def verifier(self, dtype: torch.dtype) -> Callable[[Path], None]:
        """See Network.verifier."""
        whole, loras = self.model.layout.whole, self.updates()
        names = [target.name for target in self.targets if not self._is_lora(target.name)]
        others = {name: self.parts[name].tensors(whole) for name in names}

        def check(path: Path) -> None:
            located = sort_keys(read_tensors(path), self.model.locate_layer).located
            if loras:
                verify(path, loras, self.model.locate_layer, dtype=dtype, only=self._keys_of(located, loras=True))
            self._verify_others(located, others, dtype)

        return check

    def _verify_others(
        self, located: Mapping[Location, Layer], trained: Mapping[str, Roles], dtype: torch.dtype
    ) -> None:
        unit, step = WRITTEN_AS[dtype]
        missing = set(trained)
        for where, layer in located.items():
            if not isinstance(where, LayerLocation) or self._is_lora(where.target):
                continue
            part = self.parts[where.target]
            live = trained[where.target]
            if where.num_parts > 1:
                rows = part.shape.outputs // where.num_parts
                live = cut(live, (where.part * rows, (where.part + 1) * rows), part.shape.outputs)
            found = folded(layer)
            if found.keys() != live.keys():
                raise UserError(
                    not_saved(f"{layer.name} has {sorted(found)} in the file, but the job trains {sorted(live)}")
                )
            for role, tensor in live.items():
                wanted = tensor.cpu()
                error = (found[role].float() - wanted).abs()
                if not bool((error <= 2 * unit * wanted.abs() + step).all()):  # written so that NaN fails
                    raise UserError(not_saved(f"{layer.name}.{role} differs from the trained weights", dtype))
            missing.discard(where.target)
        if missing:
            raise UserError(not_saved(f"{sorted(missing)[0]} is missing from the file that was written"))

    @torch.no_grad()
    def load(self, file_state: StateDict, *, source: str, metadata: Mapping[str, str]) -> None:
        """See Network.load_state_dict."""
        try:
            if all(self._is_lora(target.name) for target in self.targets):
                state = self.model.convert_lora_weights_before_load(file_state, metadata)
                located: Mapping[Location, Layer] = {}
            else:
                located = sort_keys(file_state, self.model.locate_layer).located
                loras = {key: file_state[key] for key in self._keys_of(located, loras=True)}
                state = self.model.convert_lora_weights_before_load(loras, metadata) if loras else {}
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        updates = updates_of(state)
        others = {where: layer for where, layer in located.items() if not self._is_lora(_target_of(where))}
        self._must_be_layers({*updates, *map(_target_of, others)}, source=source)
        self._load_updates(updates, source=source)
        try:
            whole = by_target(others)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        for target, roles in whole.items():
            try:
                self.parts[target].read(roles)
            except (ValueError, KeyError) as error:
                raise UserError(f"{source}: {target}: {error}. Check network.type and its rank or factor.") from error

    def _is_lora(self, target: str) -> bool:
        return target not in self.parts or self.parts[target].is_lora

    def _keys_of(self, located: Mapping[Location, Layer], *, loras: bool) -> set[str]:
        """The keys of the layers that have a LoRA in the job, or of the others."""
        found = (layer for where, layer in located.items() if self._is_lora(_target_of(where)) == loras)
        return {key for layer in found for key in layer.keys.values()}

    def _load_updates(self, updates: Mapping[str, Update], *, source: str) -> None:
        targets = {target.name: target for target in self.targets}
        by_rank: dict[int, dict[str, Update]] = defaultdict(dict)
        for name, update in updates.items():
            needed, found = (targets[name].outputs, targets[name].inputs), (update.b.shape[0], update.a.shape[1])
            if needed != found:
                raise UserError(
                    f"{source}: {name} is for a weight of shape {found}, but this model's has shape {needed}: "
                    "the file was made for another model."
                )
            by_rank[self.parts[name].settings.rank][name] = update
        for rank, group in by_rank.items():
            for name, update in fit(group, rank, source=source).items():
                self.parts[name].load(self._in_released_order(targets[name], update))

    def _must_be_layers(self, found: set[str], *, source: str) -> None:
        wanted = {target.name for target in self.targets}
        if found == wanted:
            return
        more, missing = sorted(found - wanted), sorted(wanted - found)
        shown = "; ".join(
            f"{len(some)} {what}, such as {some[0]}" for what, some in (("extra", more), ("missing", missing)) if some
        )
        raise UserError(
            f"{source}: its layers differ from this job's ({shown}). Check network_kwargs and transformer_only."
        )

    def _in_released_order(self, target: SizedTarget, update: Update) -> Update:
        """The update with its rows moved from the loaded model's order to the released model's, or back."""
        return Update(update.a, swap_halves(update.b)) if is_swapped(self.model, target) else update


def format_of(network: NetworkConfig, file_format: str) -> str:
    """The format of a network's file: `file_format`, unless the network's section asks for another."""
    return LYCORIS if network.type == "lokr" and network.old_lokr_format else file_format


def is_swapped(model: BaseModel, target: SizedTarget) -> bool:
    """Whether the released model has the two halves of a target's rows in the other order."""
    where = model.locate_layer(target.modules[0])
    return isinstance(where, LayerLocation) and where.is_swapped


def _target_of(where: Location) -> str:
    return next(iter(where.shares()))
