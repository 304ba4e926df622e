"""LoRA files, and others that change weights, to draw with: read, checked, and attached with a strength each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from toolkit.adapters.adapter_set import AdapterSet
from toolkit.draw.adapter_header import KIND
from toolkit.draw.adapters import AttachedAdapters
from toolkit.draw.frozen_changes import FrozenChanges, check_changes, num_bytes
from toolkit.errors import UserError
from toolkit.lora.files import AdapterFile, LoraFile, as_lora, read_adapter_file
from toolkit.models.base_model import BaseModel
from toolkit.networks.frozen import FrozenLora, by_layer
from toolkit.weights.headers import read_metadata

_CHANGE_WIDTH = 16  # bytes per weight of a layer while its change is computed: itself, two steps on the way, the result


def read_for(model: BaseModel, path: Path) -> AdapterFile:
    """Read a file of any program that changes weights, for a model that need not be loaded.

    Returns:
        A `LoraFile`, if a LoRA can represent the changes.

    Raises:
        UserError: the file cannot be read, is for another model, or changes biases or norms.
    """
    if KIND in read_metadata(path):
        raise UserError(f"{path}: is an adapter file. Draw with it as `adapter` (--adapter), not as a LoRA.")
    found = read_adapter_file(path, arch=model.arch)
    if not found.changes.is_lora():
        if found.changes.biases or found.changes.others:
            raise UserError(
                f"{path}: contains {' and '.join(found.changes.kinds())}. Changes of biases and norms work only after "
                "they are merged into the model: `python -m toolkit.lora merge`."
            )
        check_changes(model, found.changes.weights, source=str(path))
        return found
    file = as_lora(found)
    planned = {target.name: target for target in model.plan_lora_targets()}
    for name, update in file.updates.items():
        target, shape = planned.get(name), (update.b.shape[0], update.a.shape[1])
        if target is not None and shape != (target.outputs, target.inputs):
            raise UserError(
                f"{path}: {name} is for a weight of shape {shape}, but that of {model.card.label} has shape "
                f"{(target.outputs, target.inputs)}: the file was made for another model."
            )
    return file


def num_weights(model: BaseModel, file: AdapterFile, *, width: int) -> int:
    """Number of weights of `width` bytes that take as much memory as a file does, and as computing with it takes."""
    if not isinstance(file, LoraFile):
        largest = max((target.inputs * target.outputs for target in model.plan_lora_targets()), default=0)
        return (num_bytes(file.changes.weights) + _CHANGE_WIDTH * largest) // width
    return sum(update.a.numel() + update.b.numel() for update in file.updates.values())


class Loras:
    """LoRAs on a loaded model, beside the adapters that stay on it."""

    def __init__(self, model: BaseModel, attached: AttachedAdapters | None = None) -> None:
        self.model = model
        self._attached = attached
        self.adapters = AdapterSet() if attached is None else attached.adapters
        self._of_adapters = () if attached is None else attached.loras
        self._loras: list[FrozenLora | FrozenChanges] = []

    @contextmanager
    def attached(self, files: Sequence[tuple[Path, float]], adapter: Path | None = None) -> Iterator[None]:
        """Within the `with` block, the model has these LoRAs, each with its weight, and no others.

        Args:
            files: LoRA files and their weights.
            adapter: a file whose weights the adapter of its kind has, instead of those of its own file.

        Raises:
            UserError: see `read_for` and `AttachedAdapters.with_weights_of`.
        """
        model = self.model
        instead: AbstractContextManager[None] = nullcontext()
        if adapter is not None and self._attached is not None:
            instead = self._attached.with_weights_of(adapter)
        try:
            for path, weight in files:
                lora = self._attach(read_for(model, path))
                lora.strength = weight
                self._loras.append(lora)
            with instead:
                yield
        finally:
            for lora in self._loras:
                lora.detach()
            self._loras.clear()

    def _attach(self, file: AdapterFile) -> FrozenLora | FrozenChanges:
        model = self.model
        if isinstance(file, LoraFile):
            lora = FrozenLora(by_layer(model, dict(file.updates)))
            lora.attach(model.transformer, source=str(file.path), dtype=model.dtype, device_of=model.device_of)
            return lora
        changes = FrozenChanges(file.changes.weights)
        changes.attach(model, source=str(file.path))
        return changes

    @contextmanager
    def sampled(self, network: float, adapters: float) -> Iterator[None]:
        """Within the `with` block, multiply the strength of all LoRAs by `network`, of all adapters by `adapters`."""
        with ExitStack() as stack:
            stack.enter_context(self.adapters.scaled(adapters))
            for lora in (*self._of_adapters, *self._loras):
                stack.enter_context(lora.scaled(network))
            yield
