"""The config classes, re-exported under the module name that extension authors know."""

from toolkit.config import (
    DatasetConfig,
    EmaConfig,
    JobConfig,
    LoggingConfig,
    ModelConfig,
    NetworkConfig,
    ProcessConfig,
    SampleConfig,
    SampleItem,
    SaveConfig,
    TrainConfig,
    TrainingProcessConfig,
)

__all__ = [
    "DatasetConfig",
    "EmaConfig",
    "JobConfig",
    "LoggingConfig",
    "ModelConfig",
    "NetworkConfig",
    "ProcessConfig",
    "SampleConfig",
    "SampleItem",
    "SaveConfig",
    "TrainConfig",
    "TrainingProcessConfig",
]
