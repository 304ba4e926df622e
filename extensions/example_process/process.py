"""The process itself: a check that writes nothing, and the work."""

from __future__ import annotations

from collections import Counter

from extensions.example_process import CaptionWordsConfig
from jobs.process.BaseProcess import BaseProcess
from toolkit.errors import UserError
from toolkit.files import write_text
from toolkit.stop import StopRequest


class CaptionWords(BaseProcess):
    """Writes every word of the captions with how often it occurs, the most frequent first."""

    config: CaptionWordsConfig

    def check(self) -> list[str]:
        """See BaseProcess.check."""
        self.paths = sorted(self.config.captions.glob("*.txt"))
        if not self.paths:
            raise UserError(f"{self.config.captions}: there are no captions here. They are text files (.txt).")
        return [f"{self.job.name}: words of {len(self.paths)} captions -> {self.output_folder / 'words.txt'}"]

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run. It takes no time, so nothing asks `stop`."""
        words = Counter(word for path in self.paths for word in path.read_text(encoding="utf-8").lower().split())
        lines = [f"{count} {word}\n" for word, count in words.most_common()]
        write_text(self.output_folder / "words.txt", "".join(lines))
