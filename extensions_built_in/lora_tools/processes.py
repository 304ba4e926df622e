"""The processes behind `job: extract` and `job: mod`, which do what `python -m toolkit.lora` does."""

from __future__ import annotations

from jobs.process.BaseProcess import BaseProcess
from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.config.lora_jobs.settings import ExtractConfig, RescaleConfig
from toolkit.lora.commands.low_rank import Goal
from toolkit.lora.commands.rewrite import add_up, extract
from toolkit.lora.files import read_adapter_file
from toolkit.runtime.stop import StopRequest


class Extract(BaseProcess):
    """Writes the difference of two models as a LoRA."""

    @classmethod
    def check(cls, start: Start) -> Checked:
        """See BaseProcess.check."""
        config = start.config
        assert isinstance(config, ExtractConfig)
        what = f"{config.extract_model} - {config.base_model}"
        return Checked(start, (f"{start.job.name}: {what} -> {config.file(start.job.name)}",))

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run."""
        config = self.config
        assert isinstance(config, ExtractConfig)
        goal = Goal(int(config.linear)) if config.mode == "fixed" else Goal(None, **{config.mode: config.linear})
        path = config.file(self.job.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in extract(config.extract_model, config.base_model, path, goal=goal, file_format=None):
            print(line)


class Rescale(BaseProcess):
    """Writes a LoRA that at `target_weight` does what the old one did at `current_weight`."""

    @classmethod
    def check(cls, start: Start) -> Checked:
        """See BaseProcess.check.

        Raises:
            UserError: the file cannot be read.
        """
        config = start.config
        assert isinstance(config, RescaleConfig)
        read_adapter_file(config.input_path)
        factor = config.current_weight / config.target_weight
        return Checked(start, (f"{start.job.name}: {config.input_path} x {factor:g} -> {config.output_path}",))

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run."""
        config = self.config
        assert isinstance(config, RescaleConfig)
        config.output_path.parent.mkdir(parents=True, exist_ok=True)
        factor = config.current_weight / config.target_weight
        goal = Goal(None, None)
        for line in add_up([config.input_path], config.output_path, weights=[factor], goal=goal, file_format=None):
            print(line)
