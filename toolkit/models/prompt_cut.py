"""Describes to the user where a prompt too long for the text encoder was cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

FACT = "cut"  # of a prompt's embeddings: what `facts_of` keeps
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class PromptCut:
    """Which part of a prompt the text encoder reads.

    Attributes:
        num_tokens: length of the whole prompt in tokens, template included.
        max_tokens: number of tokens that are read.
        kept: the part of the prompt that is read.
        lost: the part of the prompt that is not read; empty if only the template's end is lost.
    """

    num_tokens: int
    max_tokens: int
    kept: str
    lost: str

    def describe(self, redact: Callable[[str], str] = str) -> str:
        """One line that quotes where the prompt is cut, unless `redact` finds something to hide in it."""
        lengths = f"a prompt has {self.num_tokens} tokens, template included, and {self.max_tokens} are read"
        if redact(self.kept + self.lost) != self.kept + self.lost:  # a quotation could show half of the secret
            return f"{lengths}: it is cut after {len(self.kept.split())} words"
        if not self.lost:
            num_over = self.num_tokens - self.max_tokens
            return f'{lengths}: shorten "{_end(self.kept)}" by {num_over} tokens, or its closing tokens are lost'
        return f'{lengths}: it is cut between "{_end(self.kept)}" and "{_start(self.lost)}"'


def facts_of(prompt: str, cut: PromptCut | None) -> dict[str, str]:
    """What to keep beside a prompt's embeddings, without the prompt, so that `cut_of` finds the cut again.

    Returns:
        {} if part of the template is cut off, which the prompt does not tell.
    """
    if cut is None:
        return {FACT: ""}
    if cut.kept + cut.lost not in (prompt, prompt.strip()):
        return {}
    return {FACT: f"{cut.num_tokens} {cut.max_tokens} {len(cut.kept)} {len(cut.lost)}"}


def cut_of(prompt: str, facts: Mapping[str, str]) -> PromptCut | None:
    """The cut that `facts_of` has kept, of the same prompt."""
    if not facts[FACT]:
        return None
    num_tokens, max_tokens, kept, lost = map(int, facts[FACT].split())
    words = prompt if kept + lost == len(prompt) else prompt.strip()
    return PromptCut(num_tokens, max_tokens, words[:kept], words[kept:])


def _end(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"...{line[-_SHOWN_CHARACTERS:]}"


def _start(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}..."
