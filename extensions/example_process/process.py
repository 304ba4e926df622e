"""The process itself: a check that writes nothing, and a run that does the work."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from extensions.example_process import CaptionWordsConfig
from jobs.process.BaseProcess import BaseProcess
from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.errors import UserError
from toolkit.files import write_text
from toolkit.runtime.stop import StopRequest

FILE = "words.txt"


class CaptionWords(BaseProcess):
    """Writes every word of the captions with its number of occurrences, the most frequent first."""

    @classmethod
    def check(cls, start: Start) -> Checked:
        """See BaseProcess.check."""
        config = start.config
        assert isinstance(config, CaptionWordsConfig)
        paths = _captions(config)
        if not paths:
            raise UserError(f"{config.captions}: no captions found. Captions are text files (.txt).")
        return Checked(start, (f"{start.job.name}: words of {len(paths)} captions -> {start.output_folder / FILE}",))

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run. It is too short to check `stop`."""
        config, words = self.config, Counter[str]()
        assert isinstance(config, CaptionWordsConfig)
        for path in _captions(config):
            words.update(path.read_text(encoding="utf-8").lower().split())
        lines = [f"{count} {word}\n" for word, count in words.most_common()]
        write_text(self.output_folder / FILE, "".join(lines))


def _captions(config: CaptionWordsConfig) -> list[Path]:
    return sorted(config.captions.glob("*.txt"))
