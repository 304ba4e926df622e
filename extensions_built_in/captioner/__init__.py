"""Registers the process that proposes captions for pictures."""

from __future__ import annotations

from collections.abc import Callable

from jobs.process.BaseProcess import BaseProcess
from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.extension import Extension


class CaptionExtension(Extension):
    """Captions by any image-to-text model of transformers."""

    uid = "caption"
    name = "Caption pictures"
    config = "toolkit.config.captioning.settings:CaptionProcessConfig"

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The process; loads torch."""
        from extensions_built_in.captioner.captioner import Captioner

        return Captioner

    @classmethod
    def get_check(cls) -> Callable[[Start], Checked]:
        """Its check, which loads no torch."""
        from extensions_built_in.captioner.captioning_check import check_captioning

        return check_captioning


AI_TOOLKIT_EXTENSIONS = [CaptionExtension]
