"""Problems that may harm training, picture by picture. Findings are warnings and change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.dataset import DatasetConfig
from toolkit.data.examples import Example
from toolkit.data.report.looks import Look

_TINY = 0.5  # of the area of the smallest `resolution`
_CROPPED = 0.75  # share of the image that is kept
_BLURRED = 0.5  # sharp photos have 0.1 to 0.35; blurred by 2 of 768 pixels, 0.55
_DARK, _BRIGHT, _FLAT = 0.08, 0.97, 0.02  # of luminance
_LONG_WORDS = 380  # about the 512 tokens that FLUX.2 reads
_MOST = 0.8  # share of the captions
_FEW = 5  # captions, of which nothing is "most"


@dataclass(frozen=True)
class Check:
    """One kind of finding.

    Attributes:
        title: what is wrong, in a word or two.
        advice: what to do about it.
    """

    title: str
    advice: str


CHECKS: Mapping[str, Check] = {
    "unreadable": Check("unreadable", "Repair it, or take it out: training does not start with it."),
    "reference missing": Check(
        "no reference",
        "Add a file with the same name there. Otherwise it can only be trained with `allow_missing_control: true`.",
    ),
    "mask missing": Check("no mask", "Add one: an all-white picture uses the whole image."),
    "counterpart missing": Check("no counterpart", "Add a file with the same name there: a slider learns from pairs."),
    "tiny": Check("small", "Use a larger original: it is trained at its own size, which is far below `resolution`."),
    "cropped": Check("heavily cropped", "Crop it yourself, so that what matters stays in the picture."),
    "copy": Check("copy", "Keep only one: each copy is trained as often as any other picture."),
    "alike": Check("nearly a copy", "Keep the best of the pictures that look alike, unless that is intended."),
    "blurred": Check("blurred", "Remove it, unless the model is to learn blur."),
    "dark": Check("very dark", "Brighten it, or remove it."),
    "bright": Check("nearly white", "Darken it, or remove it."),
    "flat": Check("without contrast", "Remove it, unless it is meant to have a single tone."),
    "caption missing": Check("no caption", "Write one: without it, the picture is learned for every prompt."),
    "caption long": Check("long caption", "Shorten it: text beyond the text encoder's limit is cut off."),
    "caption shared": Check("caption shared with others", "Say what is different about each picture."),
    "trigger missing": Check("without the trigger word", "Add the word to the caption, or set `trigger_word`."),
}


@dataclass(frozen=True)
class Finding:
    """Something about one picture.

    Attributes:
        path: the picture.
        kind: key of `CHECKS`.
        detail: figures, or the other pictures concerned; may be empty.
    """

    path: Path
    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Groups:
    """Pictures that are the same, or nearly: groups of two or more."""

    exact: Sequence[Sequence[Path]]
    near: Sequence[Sequence[Path]]


def diagnose(
    dataset: DatasetConfig,
    examples: Sequence[Example],
    looks: Mapping[Path, Look],
    groups: Groups,
    *,
    trigger_word: str | None = None,
) -> list[Finding]:
    """All findings about the pictures of one dataset, by kind in the order of `CHECKS`.

    Args:
        dataset: its settings.
        examples: its scanned pictures.
        looks: what they look like; of those that could not be read there is none.
        groups: copies among them.
        trigger_word: a word that each caption should have; None to look for none.
    """
    by_path: dict[Path, list[Example]] = {}
    for example in examples:
        by_path.setdefault(example.path, []).append(example)
    found = [finding for path, own in by_path.items() for finding in _of_size(path, own, min(dataset.resolution))]
    found += [Finding(path, "copy", _others(path, group)) for group in groups.exact for path in group[1:]]
    found += [Finding(path, "alike", _others(path, group)) for group in groups.near for path in group]
    found += [finding for path, look in looks.items() if path in by_path for finding in _of_look(path, look)]
    if dataset.caption_dropout_rate < 1:
        found += _of_captions({path: own[0].caption for path, own in by_path.items()}, dataset, trigger_word)
    order = {kind: number for number, kind in enumerate(CHECKS)}
    return sorted(found, key=lambda finding: (order[finding.kind], finding.path))


def repeated_parts(captions: Sequence[str], *, trigger_word: str | None = None) -> tuple[tuple[str, int], ...]:
    """Comma-separated parts that most captions have, with their number: they are learned as if they were the trigger.

    Args:
        captions: those of a dataset.
        trigger_word: left out, since it is meant to be in all of them.
    """
    if len(captions) < _FEW:
        return ()
    parts = Counter(part for text in captions for part in {part.strip() for part in text.split(",")} if part)
    return tuple(
        (part, count)
        for part, count in parts.most_common()
        if count >= _MOST * len(captions) and part != (trigger_word or "").strip()
    )


def _of_size(path: Path, own: Sequence[Example], resolution: int) -> Iterator[Finding]:
    fit = own[0].fit
    width, height = fit.source
    if width * height < _TINY * resolution**2:
        yield Finding(path, "tiny", f"{width} x {height}, below {resolution} x {resolution}")
    if fit.kept_share < _CROPPED:
        yield Finding(path, "cropped", f"{fit.kept_share:.0%} is kept")


def _of_look(path: Path, look: Look) -> Iterator[Finding]:
    tests: dict[str, Callable[[Look], bool]] = {
        "blurred": lambda look: look.blur > _BLURRED,
        "dark": lambda look: look.brightness < _DARK,
        "bright": lambda look: look.brightness > _BRIGHT,
        "flat": lambda look: look.contrast < _FLAT and _DARK <= look.brightness <= _BRIGHT,
    }
    return (Finding(path, kind) for kind, is_so in tests.items() if is_so(look))


def _of_captions(captions: Mapping[Path, str], dataset: DatasetConfig, trigger_word: str | None) -> Iterator[Finding]:
    counts = Counter(captions.values())
    for path, text in captions.items():
        if not text:
            if not dataset.default_caption:
                yield Finding(path, "caption missing")
            continue
        num_words = len(text.split())
        if num_words > _LONG_WORDS:
            yield Finding(path, "caption long", f"{num_words} words")
        if counts[text] > 1:
            yield Finding(path, "caption shared", f"{counts[text]} pictures have this caption")
        if trigger_word and trigger_word.lower() not in text.lower():
            yield Finding(path, "trigger missing")


def _others(path: Path, group: Sequence[Path]) -> str:
    return ", ".join(other.name for other in group if other != path)
