"""Trained adapters on a loaded model, to draw with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.adapters.adapter import Adapter
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.files import load_adapter
from toolkit.config import AdapterConfig
from toolkit.encode.vision import view_shape
from toolkit.lora.parse import parse_changes
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.networks.frozen import FrozenLora, by_layer
from toolkit.randomness import Draws


@dataclass(frozen=True)
class AttachedAdapters:
    """Adapters that stay on a model.

    Attributes:
        adapters: the adapters, in the order of the job.
        loras: the LoRAs that other programs have written into the adapters' files.
    """

    adapters: AdapterSet
    loras: tuple[FrozenLora, ...] = ()


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
        assert config.name_or_path is not None, "the section requires it"
        load_adapter(config.name_or_path, adapter, load_lora=partial(_take, model, loras, config.name_or_path))
        attached.append(adapter)
    return AttachedAdapters(AdapterSet(tuple(attached)), tuple(loras))


def _take(model: BaseModel, loras: list[FrozenLora], path: Path, tensors: StateDict, header: Mapping[str, str]) -> None:
    """Put a LoRA from the file of an adapter on the model."""
    lora = FrozenLora(by_layer(model, parse_changes(tensors, header, model.locate_layer).updates()))
    lora.attach(model.transformer, source=str(path), dtype=model.dtype, device_of=model.device_of)
    loras.append(lora)
