"""Registers `job: extract` and `job: mod`: a LoRA out of the difference of two models, and one of another strength."""

from __future__ import annotations

from jobs.process.BaseProcess import BaseProcess
from toolkit.extension import Extension


class ExtractExtension(Extension):
    """The name that ai-toolkit has for a LoRA of linear layers."""

    uid = "lora"
    name = "Extract a LoRA"
    config = "toolkit.config.lora_jobs.settings:ExtractConfig"
    jobs = ("extract",)

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The process; loads torch."""
        from extensions_built_in.lora_tools.processes import Extract

        return Extract


class LoconExtension(ExtractExtension):
    """The name that ai-toolkit has for one of linear and convolution layers; these models have no convolutions."""

    uid = "locon"


class RescaleExtension(Extension):
    """The name that ai-toolkit has for it."""

    uid = "rescale_lora"
    name = "Change the strength of a LoRA"
    config = "toolkit.config.lora_jobs.settings:RescaleConfig"
    jobs = ("mod",)

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The process; loads torch."""
        from extensions_built_in.lora_tools.processes import Rescale

        return Rescale


AI_TOOLKIT_EXTENSIONS = [ExtractExtension, LoconExtension, RescaleExtension]
