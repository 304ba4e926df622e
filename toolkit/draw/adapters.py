"""Trained adapters on a loaded model, to draw with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.adapters.adapter import Adapter
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.files import load_adapter
from toolkit.config import AdapterConfig
from toolkit.draw.adapter_header import KIND
from toolkit.encode.vision import view_shape
from toolkit.lora.parse import parse_changes
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.networks.frozen import FrozenLora, by_layer
from toolkit.randomness import Draws
from toolkit.weights.headers import read_metadata


@dataclass(frozen=True)
class AttachedAdapters:
    """Adapters that stay on a model.

    Attributes:
        configs: their settings, in the order of the job.
        adapters: the adapters.
        loras: the LoRAs that other programs have written into the adapters' files.
    """

    configs: Sequence[AdapterConfig]
    adapters: AdapterSet
    loras: tuple[FrozenLora, ...] = ()

    @contextmanager
    def with_weights_of(self, path: Path) -> Iterator[None]:
        """Within the `with` block, the adapter of the same kind as a file has the weights of that file.

        Raises:
            UserError: the file is damaged, of another model or encoder, or also holds a LoRA.
        """
        pairs = {one.type: (one, adapter) for one, adapter in zip(self.configs, self.adapters.adapters, strict=True)}
        config, adapter = pairs[read_metadata(path)[KIND]]  # the check has refused other kinds
        load_adapter(path, adapter)
        try:
            yield
        finally:
            load_adapter(own_file(config), adapter, load_lora=lambda *_: None)  # its LoRA has stayed


def attach_adapters(model: BaseModel, configs: Sequence[AdapterConfig]) -> AttachedAdapters:
    """Put adapters, as their files have them, on a loaded model.

    Args:
        model: a model whose transformer is loaded.
        configs: the adapters; each names its file.

    Raises:
        UserError: a file is damaged, or of another adapter, model or encoder.
    """
    attached: list[Adapter] = []
    loras: list[FrozenLora] = []
    for config in configs:
        adapter: Adapter = config.choice.load()(config, view_shape(config))
        adapter.attach(model, Draws(0))  # all that is drawn is replaced by what the file has
        path = own_file(config)
        load_adapter(path, adapter, load_lora=partial(_take, model, loras, path))
        attached.append(adapter)
    return AttachedAdapters(configs, AdapterSet(tuple(attached)), tuple(loras))


def own_file(config: AdapterConfig) -> Path:
    """The file of an adapter that is drawn with."""
    assert config.name_or_path is not None, "a drawing job requires it"
    return config.name_or_path


def _take(model: BaseModel, loras: list[FrozenLora], path: Path, tensors: StateDict, header: Mapping[str, str]) -> None:
    """Put a LoRA from the file of an adapter on the model."""
    lora = FrozenLora(by_layer(model, parse_changes(tensors, header, model.locate_layer).updates()))
    lora.attach(model.transformer, source=str(path), dtype=model.dtype, device_of=model.device_of)
    loras.append(lora)
