"""A process of your own, as small as it gets: it counts the words of captions. docs/extensions.md explains it."""

from __future__ import annotations

from pydantic import Field

from jobs.process.BaseProcess import BaseProcess
from toolkit.config.paths import ExistingFolder
from toolkit.config_modules import ProcessConfig
from toolkit.extension import Extension


class CaptionWordsConfig(ProcessConfig):
    """One entry of `config.process`: a count of words. What every process has stands in ProcessConfig."""

    captions: ExistingFolder = Field(description="Folder with the captions, as text files.")


class ExampleProcessExtension(Extension):
    """What a job file names with `type: example_process`."""

    uid = "example_process"
    name = "Words of captions"
    config = CaptionWordsConfig

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The process; a heavy one would load torch here."""
        from extensions.example_process.process import CaptionWords

        return CaptionWords


AI_TOOLKIT_EXTENSIONS = [ExampleProcessExtension]
