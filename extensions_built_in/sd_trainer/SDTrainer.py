"""The trainer behind `type: sd_trainer`: trains a LoRA or the whole transformer."""

from __future__ import annotations

import torch

from jobs.process.BaseSDTrainProcess import BaseSDTrainProcess
from toolkit.lora.settings import read_lora_tensors
from toolkit.models.base_model import BaseModel
from toolkit.networks.choices import NETWORKS
from toolkit.randomness import Draws
from toolkit.train.trainable import NetworkWeights, TrainableWeights, TransformerWeights


class SDTrainer(BaseSDTrainProcess):
    """LoRA training if the job has a `network`, full fine-tuning if it sets `train.full_finetune`."""

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """See BaseSDTrainProcess.make_trainable."""
        config = self.config.network
        if config is None:
            weights = TransformerWeights(model, save_format=self.config.save.save_format)
            weights.unfreeze()
            return weights
        network = NETWORKS[config.type].load()(model, config, draws)
        network.apply()
        if config.pretrained_lora_path is not None:
            path = config.pretrained_lora_path
            tensors, metadata = read_lora_tensors(path)
            network.load_state_dict(tensors, source=str(path), metadata=metadata)
        # Fail now, not at the first save, if the file format cannot represent these layers.
        network.state_dict(torch.float32, self.config.save.lora_file_format)
        return NetworkWeights(network, file_format=self.config.save.lora_file_format)
