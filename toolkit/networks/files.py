"""The file of a network: written, read back and compared, and loaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from toolkit.errors import UserError
from toolkit.lora.update import LayerLocation, SizedTarget, Update, swap_halves, updates_of
from toolkit.lora.verify import verify
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.networks.fit import fit
from toolkit.networks.part import Part


@dataclass(frozen=True)
class NetworkFile:
    """What a file of a network has to say: its parts, and the model that they are for.

    Attributes:
        model: the model.
        targets: the chosen weights of the released model.
        parts: what is trained at each target, by the target's name.
    """

    model: BaseModel
    targets: Sequence[SizedTarget]
    parts: Mapping[str, Part]

    def tensors(self, dtype: torch.dtype, file_format: str) -> StateDict:
        """See Network.state_dict."""
        state: StateDict = {}
        for target in self.targets:
            update = self.parts[target.name].update()
            if update is not None:
                state[f"{target.name}.lora_A.weight"] = update.a.to(dtype)
                state[f"{target.name}.lora_B.weight"] = self._in_released_order(target, update).b.to(dtype)
        return self.model.convert_lora_weights_before_save(state, file_format)

    def updates(self) -> dict[str, Update]:
        """See Network.updates."""
        found: dict[str, Update] = {}
        for target in self.targets:
            update = self.parts[target.name].update()
            if update is not None:
                rows = update.b.cpu().chunk(len(target.modules))
                found |= {name: Update(update.a.cpu(), b) for name, b in zip(target.modules, rows, strict=True)}
        return found

    def verify(self, path: Path, *, dtype: torch.dtype, file_format: str) -> None:
        """See Network.verify."""
        verify(path, self.updates(), self.model.locate_layer, dtype=dtype)

    @torch.no_grad()
    def load(self, file_state: StateDict, *, source: str, metadata: Mapping[str, str]) -> None:
        """See Network.load_state_dict."""
        try:
            state = self.model.convert_lora_weights_before_load(file_state, metadata)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        updates = updates_of(state)
        self._must_be_layers(set(updates), source=source)
        self._load_updates(updates, source=source)

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


def is_swapped(model: BaseModel, target: SizedTarget) -> bool:
    """Whether the released model has the two halves of a target's rows in the other order."""
    where = model.locate_layer(target.modules[0])
    return isinstance(where, LayerLocation) and where.is_swapped
