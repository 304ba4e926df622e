"""Variants of a caption: its parts in other orders, some dropped, with other trigger words.

The text encoder is freed before training, so a caption has a finite number of variants, and all of them are encoded
once. They depend on the caption's text alone, so that later runs find them in the cache, whatever their seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from toolkit.config.dataset import DatasetConfig
from toolkit.data.captions.texts import CaptionTexts, plain
from toolkit.randomness import Draws

PLACEHOLDERS = ("[trigger]", "[name]")
_DRAWS = Draws(0)


@dataclass(frozen=True)
class Variation:
    """How a dataset varies its captions.

    Attributes:
        dataset: its settings.
        trigger: the trigger word, or None.
        trigger_words: `random_triggers`, read from their file if they are in one.
        with_short: whether long and short captions are used in turn.
    """

    dataset: DatasetConfig
    trigger: str | None = None
    trigger_words: tuple[str, ...] = ()
    with_short: bool = False

    @property
    def wants_short(self) -> bool:
        """Whether short captions are used."""
        return self.with_short or self.dataset.use_short_captions

    def of(self, texts: CaptionTexts, *, default: str) -> tuple[str, ...]:
        """All texts that an image is trained with, each as often as its share; one is drawn at each use.

        Args:
            texts: what is written about the image.
            default: used if nothing is.
        """
        long, short = texts.long or texts.short or (default,), texts.short or texts.long or (default,)
        if not self.with_short:
            return self._variants(short if self.dataset.use_short_captions else long)
        times = math.lcm(len(long), len(short))
        groups = (group * (times // len(group)) for group in (long, short))
        return tuple(itertools.chain.from_iterable(self._variants(group) for group in groups))

    def num_orders(self, num_parts: int) -> int:
        """Number of different texts that may be made of a caption of so many different parts."""
        num = max(0, num_parts - self.dataset.keep_tokens)
        if self.dataset.token_dropout_rate and self.dataset.shuffle_tokens:
            orders = sum(math.perm(num, kept) for kept in range(num + 1))
        elif self.dataset.token_dropout_rate:
            orders = 2**num
        else:
            orders = math.factorial(num) if self.dataset.shuffle_tokens else 1
        most = min(self.dataset.random_triggers_max, len(self.trigger_words))
        return orders * (sum(math.perm(len(self.trigger_words), k) for k in range(1, most + 1)) or 1)

    def _variants(self, texts: Sequence[str]) -> tuple[str, ...]:
        if not self.dataset.varies_captions:
            return tuple(self._finished(text) for text in texts)
        count = self.dataset.caption_variants
        return tuple(self._varied(text, number) for text in texts for number in range(count))

    def _varied(self, text: str, number: int) -> str:
        random = _DRAWS.python("caption variant", text, number)
        if self.dataset.shuffle_tokens or self.dataset.token_dropout_rate:
            text = self._with_tokens(text, number, random)
        text = self._finished(text)
        if not self.trigger_words:
            return text
        most = min(self.dataset.random_triggers_max, len(self.trigger_words))
        added = random.sample(self.trigger_words, random.randint(1, most))
        return ", ".join(part for part in (text, *added) if part)

    def _with_tokens(self, text: str, number: int, random: Random) -> str:
        """The parts of a caption shuffled and thinned out.

        Where there are no more orders than variants, each comes about equally often.
        """
        tokens = split(text)
        kept, others = tokens[: self.dataset.keep_tokens], tokens[self.dataset.keep_tokens :]
        rate, count = self.dataset.token_dropout_rate, self.dataset.caption_variants
        if not rate and len(others) < 8 and math.factorial(len(others)) <= count:
            orders = list(itertools.permutations(others))
            return ", ".join([*kept, *orders[number % len(orders)]])
        if self.dataset.shuffle_tokens:
            random.shuffle(others)
        return ", ".join([*kept, *(token for token in others if random.random() >= rate)])

    def _finished(self, text: str) -> str:
        for entry in self.dataset.replacements:
            old, _, new = entry.partition("|")
            text = text.replace(old, new)
        return put_trigger(text, self.trigger, must_have=not self.dataset.is_reg)


def split(caption: str) -> list[str]:
    """The comma-separated parts of a caption, without white space around them; none is blank."""
    return [token for part in caption.split(",") if (token := part.strip())]


def put_trigger(caption: str, trigger: str | None, *, must_have: bool) -> str:
    """The caption with `[trigger]` and `[name]` replaced by the trigger word, or removed if there is none.

    Args:
        caption: the caption as written.
        trigger: the trigger word, or None.
        must_have: prepend the trigger word to captions that do not contain it (case-sensitive).
    """
    trigger = trigger or ""
    for placeholder in PLACEHOLDERS:
        if not trigger:
            caption = caption.replace(f"{placeholder} ", "").replace(f" {placeholder}", "")
        caption = caption.replace(placeholder, trigger)
    if must_have and trigger not in caption:
        caption = f"{trigger} {caption}"
    return plain(caption)
