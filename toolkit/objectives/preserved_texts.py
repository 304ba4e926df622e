"""Which words an example's words become, for which the prediction should stay that of the base model."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.config import TrainingProcessConfig
from toolkit.data.examples import Example

BLANK = ""


@dataclass(frozen=True)
class PreservedTexts:
    """The words that a run preserves.

    Attributes:
        is_blank: whether the empty prompt is preserved, whatever the words.
        classes: for each dataset the trigger word and the class that takes its place; None where nothing is preserved.
    """

    is_blank: bool = False
    classes: tuple[tuple[str, str] | None, ...] = ()

    @classmethod
    def of_run(cls, config: TrainingProcessConfig) -> PreservedTexts:
        """The words that a run's settings preserve."""
        train = config.train
        found: list[tuple[str, str] | None] = []
        for dataset in config.datasets:
            trigger, kind = dataset.trigger_word or config.trigger_word, dataset.diff_output_preservation_class
            kind = train.diff_output_preservation_class if kind is None else kind
            found.append((trigger, kind) if trigger and config.preserves_class(dataset) else None)
        return cls(train.blank_prompt_preservation, tuple(found))

    @property
    def is_any(self) -> bool:
        """Whether the run preserves anything."""
        return self.is_blank or any(self.classes)

    def for_words(self, example: Example, text: str) -> str | None:
        """The words that an example trained with `text` preserves.

        None if there are none: a text without the trigger word is what the example teaches.
        """
        if self.is_blank:
            return BLANK
        pair = self.classes[example.dataset_index] if self.classes else None
        if pair is None or pair[0] not in text:
            return None
        replaced = text.replace(*pair)
        return replaced if pair[1] else " ".join(replaced.split())


NOTHING_PRESERVED = PreservedTexts()
