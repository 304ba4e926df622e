"""The trainer behind `type: sd_trainer`: trains a LoRA, adapters, or the whole transformer."""

from __future__ import annotations

from collections.abc import Callable

import torch

from jobs.process.BaseSDTrainProcess import BaseSDTrainProcess
from toolkit.adapters.adapter import Adapter
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.choices import file_suffixes
from toolkit.adapters.files import load_adapter
from toolkit.config import AdapterConfig, NetworkConfig
from toolkit.encode.vision import view_shape
from toolkit.lora.settings import read_lora_tensors
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.train.adapted import AdaptedWeights, NamedAdapter
from toolkit.train.trainable import MergedWeights, NetworkWeights, TrainableWeights, TransformerWeights


class SDTrainer(BaseSDTrainProcess):
    """LoRA training if the job has a `network`, adapters if it has any, all weights with `train.full_finetune`."""

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """See BaseSDTrainProcess.make_trainable."""
        if self.config.train.full_finetune:
            adapters = tuple(self._attached(config, model, draws) for config in self.config.adapter)
            whole = TransformerWeights(model, save_format=self.config.save.save_format, adapters=AdapterSet(adapters))
            whole.unfreeze(self.config.model.only_if_contains, self.config.model.ignore_if_contains)
            return whole
        network = None if self.config.network is None else self._network(model, self.config.network, draws)
        if self.config.adapter:
            return self._adapted(model, network, draws)
        assert network is not None, "the check has refused a job that trains nothing"
        return network

    def _network(self, model: BaseModel, config: NetworkConfig, draws: Draws) -> NetworkWeights:
        network = Network(model, config, draws)
        network.apply()
        if config.pretrained_lora_path is not None:
            path = config.pretrained_lora_path
            tensors, metadata = read_lora_tensors(path)
            network.load_state_dict(tensors, source=str(path), metadata=metadata)
        train, save = self.config.train, self.config.save
        # Fail now, not at the first save, if the file format cannot represent these layers.
        if train.merge_network_on_save:
            strength = train.merge_network_on_save_strength
            merged = MergedWeights(network, save_format=save.save_format, strength=strength)
            merged.must_have_format()
            return merged
        network.state_dict(torch.float32, save.lora_file_format)
        return NetworkWeights(network, file_format=save.lora_file_format)

    def _adapted(self, model: BaseModel, network: NetworkWeights | None, draws: Draws) -> AdaptedWeights:
        """The adapters, attached after the network so that it sees what they add."""
        configs = self.config.adapter
        is_alone = network is None and len(configs) == 1
        suffixes = file_suffixes([config.type for config in configs], is_alone=is_alone)
        named = []
        for index, (config, suffix) in enumerate(zip(configs, suffixes, strict=True)):
            adapter = self._attached(config, model, draws, network)
            named.append(NamedAdapter(adapter, f"{config.type}.{index}", suffix))
        return AdaptedWeights(network, named, model.layout)

    def _attached(
        self, config: AdapterConfig, model: BaseModel, draws: Draws, network: NetworkWeights | None = None
    ) -> Adapter:
        """An adapter on the model; a LoRA in the file that it starts from becomes the start of the network."""
        adapter: Adapter = config.choice.load()(config, view_shape(config))
        adapter.attach(model, draws)
        if config.name_or_path is not None:
            load_adapter(config.name_or_path, adapter, load_lora=self._start_of(network, str(config.name_or_path)))
        return adapter

    def _start_of(
        self, network: NetworkWeights | None, source: str
    ) -> Callable[[StateDict, dict[str, str]], None] | None:
        """What gives the network its start from a file; None if there is no network, or it starts from another."""
        if network is None or self.config.network is None or self.config.network.pretrained_lora_path is not None:
            return None
        return lambda tensors, metadata: network.network.load_state_dict(tensors, source=source, metadata=metadata)
