"""A minimal process of your own: it counts the words in captions. docs/extensions.md explains it."""

from __future__ import annotations

from pydantic import Field

from jobs.process.BaseProcess import BaseProcess
from toolkit.config.paths import ExistingFolder
from toolkit.config_modules import ProcessConfig
from toolkit.extension import Extension


class CaptionWordsConfig(ProcessConfig):
    """One entry of `config.process`: counts words. Settings that every process has are in ProcessConfig."""

    captions: ExistingFolder = Field(description="Folder with the captions, as text files.")


class ExampleProcessExtension(Extension):
    """The extension that job files select with `type: example_process`."""

    uid = "example_process"
    name = "Words in captions"
    config = CaptionWordsConfig

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The process class; imported only here, so that reading a job file stays fast."""
        from extensions.example_process.process import CaptionWords

        return CaptionWords


AI_TOOLKIT_EXTENSIONS = [ExampleProcessExtension]
