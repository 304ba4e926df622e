"""Job files: read, checked as a whole, and turned into typed, frozen values."""

from toolkit.config.adapter import AdapterConfig
from toolkit.config.dataset import DatasetConfig
from toolkit.config.job import JobConfig, RunConfig
from toolkit.config.logging import LoggingConfig
from toolkit.config.model import ModelConfig
from toolkit.config.network import NetworkConfig, NetworkKwargs
from toolkit.config.process import ProcessConfig
from toolkit.config.reading.load import load_job, load_job_text
from toolkit.config.sample import SampleConfig, SampleItem
from toolkit.config.save import SaveConfig
from toolkit.config.train import TrainConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.config.updates.average import EmaConfig
from toolkit.config.validation.settings import ValidationConfig

__all__ = [
    "AdapterConfig",
    "DatasetConfig",
    "EmaConfig",
    "JobConfig",
    "LoggingConfig",
    "ModelConfig",
    "NetworkConfig",
    "NetworkKwargs",
    "ProcessConfig",
    "RunConfig",
    "SampleConfig",
    "SampleItem",
    "SaveConfig",
    "TrainConfig",
    "TrainingProcessConfig",
    "ValidationConfig",
    "load_job",
    "load_job_text",
]
