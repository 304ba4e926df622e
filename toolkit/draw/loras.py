"""LoRA files to draw with: read, checked against the model, and attached with a strength each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toolkit.adapters.adapter_set import AdapterSet
from toolkit.errors import UserError
from toolkit.lora.files import LoraFile, read_lora_file
from toolkit.models.base_model import BaseModel
from toolkit.networks.frozen import FrozenLora, by_layer


def read_for(model: BaseModel, path: Path) -> LoraFile:
    """Read a LoRA or LoKr file of any program, for a model that need not be loaded.

    Raises:
        UserError: the file cannot be read, is for another model, or changes more than a LoRA can.
    """
    file = read_lora_file(path, arch=model.arch)
    planned = {target.name: target for target in model.plan_lora_targets()}
    for name, update in file.updates.items():
        target, found = planned.get(name), (update.b.shape[0], update.a.shape[1])
        if target is not None and found != (target.outputs, target.inputs):
            raise UserError(
                f"{path}: {name} is for a weight of shape {found}, but that of {model.card.label} has shape "
                f"{(target.outputs, target.inputs)}: the file was made for another model."
            )
    return file


def num_weights(file: LoraFile) -> int:
    """Number of weights that a file keeps in memory."""
    return sum(update.a.numel() + update.b.numel() for update in file.updates.values())


class Loras:
    """LoRAs on a loaded model."""

    adapters = AdapterSet()

    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self._loras: list[FrozenLora] = []

    @contextmanager
    def attached(self, files: Sequence[tuple[Path, float]]) -> Iterator[None]:
        """Within the `with` block, the model has these LoRAs, each with its weight, and no others.

        Raises:
            UserError: see `read_for`.
        """
        model = self.model
        try:
            for path, weight in files:
                lora = FrozenLora(by_layer(model, dict(read_for(model, path).updates)))
                lora.strength = weight
                lora.attach(model.transformer, source=str(path), dtype=model.dtype, device_of=model.device_of)
                self._loras.append(lora)
            yield
        finally:
            for lora in self._loras:
                lora.detach()
            self._loras.clear()

    @contextmanager
    def sampled(self, network: float, adapters: float) -> Iterator[None]:
        """Within the `with` block, multiply the strength of all LoRAs by `network`."""
        with ExitStack() as stack:
            for lora in self._loras:
                stack.enter_context(lora.scaled(network))
            yield
