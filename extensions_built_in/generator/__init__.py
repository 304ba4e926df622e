"""Registers the process that draws pictures, under the names that job files use."""

from __future__ import annotations

from collections.abc import Callable

from jobs.process.BaseProcess import BaseProcess
from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.extension import Extension


class GeneratorExtension(Extension):
    """Draws pictures from a list of prompts; the name is the one that ai-toolkit has."""

    uid = "to_folder"
    name = "Draw pictures"
    config = "toolkit.config.drawing.generate:GenerateProcessConfig"
    jobs = ("generate",)

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The process; loads torch."""
        from extensions_built_in.generator.generator import Generator

        return Generator

    @classmethod
    def get_check(cls) -> Callable[[Start], Checked]:
        """Its check, which loads torch only where files must be read."""
        from extensions_built_in.generator.drawing_check import check_drawing

        return check_drawing


AI_TOOLKIT_EXTENSIONS = [GeneratorExtension]
