"""The trainer behind `type: sd_trainer`: trains a LoRA, adapters, or the whole transformer."""

from __future__ import annotations

from collections import Counter

import torch

from jobs.process.BaseSDTrainProcess import BaseSDTrainProcess
from toolkit.adapters.files import load_adapter
from toolkit.config import NetworkConfig
from toolkit.encode.vision import view_shape
from toolkit.lora.settings import read_lora_tensors
from toolkit.models.base_model import BaseModel
from toolkit.networks.choices import NETWORKS
from toolkit.randomness import Draws
from toolkit.train.adapted import AdaptedWeights, NamedAdapter
from toolkit.train.trainable import NetworkWeights, TrainableWeights, TransformerWeights


class SDTrainer(BaseSDTrainProcess):
    """LoRA training if the job has a `network`, adapters if it has any, all weights with `train.full_finetune`."""

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """See BaseSDTrainProcess.make_trainable."""
        if self.config.train.full_finetune:
            whole = TransformerWeights(model, save_format=self.config.save.save_format)
            whole.unfreeze()
            return whole
        network = None if self.config.network is None else self._network(model, self.config.network, draws)
        if self.config.adapter:
            return self._adapted(model, network, draws)
        assert network is not None, "the check has refused a job that trains nothing"
        return network

    def _network(self, model: BaseModel, config: NetworkConfig, draws: Draws) -> NetworkWeights:
        network = NETWORKS[config.type].load()(model, config, draws)
        network.apply()
        if config.pretrained_lora_path is not None:
            path = config.pretrained_lora_path
            tensors, metadata = read_lora_tensors(path)
            network.load_state_dict(tensors, source=str(path), metadata=metadata)
        # Fail now, not at the first save, if the file format cannot represent these layers.
        network.state_dict(torch.float32, self.config.save.lora_file_format)
        return NetworkWeights(network, file_format=self.config.save.lora_file_format)

    def _adapted(self, model: BaseModel, network: NetworkWeights | None, draws: Draws) -> AdaptedWeights:
        """The adapters, attached after the network so that it sees what they add."""
        configs = self.config.adapter
        is_alone = network is None and len(configs) == 1
        suffixes = Counter(config.choice.suffix for config in configs)
        named = []
        for index, config in enumerate(configs):
            adapter = config.choice.load()(config, view_shape(config))
            adapter.attach(model, draws)
            if config.name_or_path is not None:
                load_adapter(config.name_or_path, adapter)
            suffix = config.choice.suffix if suffixes[config.choice.suffix] == 1 else f"_{config.type}"
            named.append(NamedAdapter(adapter, f"{config.type}.{index}", "" if is_alone else suffix))
        return AdaptedWeights(network, named)
