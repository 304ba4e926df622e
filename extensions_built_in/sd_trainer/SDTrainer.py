"""The trainer of `type: sd_trainer`: a LoRA, or the whole transformer."""

from __future__ import annotations

import torch

from jobs.process.BaseSDTrainProcess import BaseSDTrainProcess
from toolkit.lora.files import read_lora_file
from toolkit.models.base_model import BaseModel
from toolkit.networks.lora import LoRASpecialNetwork
from toolkit.randomness import Draws
from toolkit.train.trainable import NetworkWeights, TrainableWeights, TransformerWeights
from toolkit.weights.tensor_files import read_metadata, read_tensors


class SDTrainer(BaseSDTrainProcess):
    """LoRA training where the job has a `network`, full fine-tuning where it says `train.full_finetune`."""

    def check(self) -> list[str]:
        """See BaseSDTrainProcess.check: a LoRA to start from is read, too."""
        lines = super().check()
        if self.config.network is not None and self.config.network.pretrained_lora_path is not None:
            read_lora_file(self.config.network.pretrained_lora_path, arch=self.config.model.arch)
        return lines

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """See BaseSDTrainProcess.make_trainable."""
        config = self.config.network
        if config is None:
            weights = TransformerWeights(model, save_format=self.config.save.save_format)
            weights.unfreeze()
            return weights
        network = LoRASpecialNetwork(model, config, draws)
        network.apply()
        if config.pretrained_lora_path is not None:
            path = config.pretrained_lora_path
            network.load_state_dict(read_tensors(path), source=str(path), metadata=read_metadata(path))
        # A format that cannot carry these layers is refused now, not at the first save.
        network.state_dict(torch.float32, self.config.save.lora_file_format)
        return NetworkWeights(network, file_format=self.config.save.lora_file_format)
