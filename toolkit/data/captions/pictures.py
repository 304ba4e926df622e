"""Captions: found beside the image or in a list, with the trigger word filled in; missing ones are reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.dataset import DatasetConfig
from toolkit.config.datasets.captions import WORD_FILE
from toolkit.data.captions.files import CaptionFolder, looked_for, read_texts
from toolkit.data.captions.texts import CaptionError, CaptionTexts
from toolkit.data.captions.variants import Variation, put_trigger, split
from toolkit.data.image_files import ImageInfo
from toolkit.data.scan_result import NAMED_FILES, Findings
from toolkit.data.sources.listing import Listing

NO_SHORT = "no image has a short caption. Write them as `caption_short` next to `caption` in JSON"


@dataclass(frozen=True)
class Picture:
    """An image with its text.

    Attributes:
        path: the image file.
        info: what was measured.
        caption: what it is trained with, the trigger word filled in; the first if there are several.
        variants: see `Example.variants`.
        has_own_caption: whether a text of its own was found, and is not blank.
        is_blank: whether its text is empty on purpose.
        has_short: whether a short caption was found.
        num_parts: number of comma-separated parts of its longest caption, as written.
    """

    path: Path
    info: ImageInfo
    caption: str
    variants: tuple[str, ...]
    has_own_caption: bool
    is_blank: bool
    has_short: bool = False
    num_parts: int = 0


def caption_pictures(
    dataset: DatasetConfig,
    infos: Mapping[Path, ImageInfo],
    listing: Listing,
    variation: Variation,
    findings: Findings,
) -> list[Picture]:
    """The images with their captions, from the dataset's list or from caption files; unreadable ones are reported.

    Args:
        dataset: where they are from.
        infos: its readable images.
        listing: of its folder or list, which may hold captions too.
        variation: what is made of the texts.
        findings: gets the problems.
    """
    pictures: list[Picture] = []
    without_short: list[Path] = []
    folders: dict[Path, CaptionFolder] = {}
    unused = Counter(listing.unused)
    for path, info in infos.items():
        own: CaptionTexts | None
        if path in listing.captions:
            own = listing.captions[path]
        else:
            folder = folders.setdefault(path.parent, CaptionFolder(path.parent))
            own = _read_own(dataset, path, folder, unused, findings)
            if own is None and path in listing.metadata:
                own = listing.metadata[path]
        if own and not own.short:
            without_short.append(path)
        texts, default = own or CaptionTexts(), "" if own else dataset.default_caption or ""
        variants = variation.of(texts, default=default)
        first, several = variants[0], variants if len(set(variants)) > 1 else ()
        pictures.append(
            Picture(
                path,
                info,
                first,
                several,
                has_own_caption=bool(own),
                is_blank=own is not None and not own,
                has_short=bool(own and own.short),
                num_parts=max(len(split(text)) for text in (*texts.long, *texts.short, default)),
            )
        )
    keys = [f"{key} ({count})" for key, count in unused.most_common()]
    if keys:
        findings.remark(dataset.folder_path, "keys of entries that are not used", keys)
    if variation.wants_short:
        _report_short(dataset, pictures, without_short, findings)
    return pictures


def _report_short(
    dataset: DatasetConfig, pictures: Sequence[Picture], without: Sequence[Path], findings: Findings
) -> None:
    num_captions = sum(picture.has_own_caption for picture in pictures)
    if dataset.use_short_captions and num_captions and len(without) == num_captions:
        findings.problem(dataset.folder_path, f"{NO_SHORT}, or remove `use_short_captions`")
    else:
        findings.notice(dataset.folder_path, "without a short caption, trained with the long one", without)


def trigger_words(dataset: DatasetConfig, findings: Findings) -> tuple[str, ...]:
    """The `random_triggers`, with those in files; a file without words is a problem."""
    words: list[str] = []
    for given in dataset.random_triggers:
        if not given.endswith(WORD_FILE):
            words.append(given)
            continue
        try:
            found = read_texts(Path(given), caption_per_line=True).long
        except (CaptionError, OSError) as error:
            findings.problem(given, f"cannot be read as a list of words, one per line: {error}")
            continue
        words += found
        if not found:
            findings.problem(given, "contains no words. Write one per line")
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def report_variants(
    dataset: DatasetConfig, pictures: Sequence[Picture], variation: Variation, findings: Findings
) -> None:
    """Say how many texts there are to encode where captions vary, and which settings change none of them."""
    if not dataset.varies_captions or not pictures:
        return
    least = dataset.keep_tokens + (2 if dataset.shuffle_tokens and not dataset.token_dropout_rate else 1)
    most_parts = max(picture.num_parts for picture in pictures)
    if variation.trigger_words == () and most_parts < least:
        what = (
            f"captions do not vary: none has {least} or more comma-separated parts, so `shuffle_tokens` and "
            f"`token_dropout_rate` with `keep_tokens: {dataset.keep_tokens}` change nothing"
        )
        findings.remark(dataset.folder_path, what)
        return
    most = variation.num_orders(most_parts)
    texts = {text for picture in pictures for text in picture.variants or (picture.caption,)}
    possible = f"{most:,}" if most < 10**12 else "more than 10^12"
    what = (
        f"a caption has up to {possible} ways; {dataset.caption_variants} of each are drawn and encoded before "
        f"training, {len(texts)} texts for {len(pictures)} images (`caption_variants` changes that)"
    )
    findings.remark(dataset.folder_path, what)


def report_missing_captions(
    dataset: DatasetConfig, pictures: Sequence[Picture], trigger: str | None, findings: Findings
) -> None:
    """Report images without a caption of their own: a problem if no text at all is left to train them with."""
    missing = [picture for picture in pictures if not picture.has_own_caption]
    has_default = dataset.default_caption is not None or bool(trigger and not dataset.is_reg)
    default = put_trigger(dataset.default_caption or "", trigger, must_have=not dataset.is_reg)
    trained = [picture.path for picture in missing if has_default or picture.is_blank]
    bare = [picture.path for picture in missing if not (has_default or picture.is_blank)]
    findings.notice(dataset.folder_path, f'without a caption, trained with "{default}"', trained)
    if bare:
        _refuse_bare(dataset, bare, findings)


def _refuse_bare(dataset: DatasetConfig, bare: Sequence[Path], findings: Findings) -> None:
    """Name images that have neither a caption file, nor a blank one, nor any other text."""
    extension = dataset.caption_ext
    near = dict.fromkeys(
        name for path in bare[:NAMED_FILES] for name in CaptionFolder(path.parent).near_misses(path, extension)
    )
    hint = f" There is {', '.join(list(near)[:NAMED_FILES])}." if near else ""
    names = ", ".join(path.name for path in bare[:NAMED_FILES]) + (", ..." if len(bare) > NAMED_FILES else "")
    count = "1 image has" if len(bare) == 1 else f"{len(bare)} images have"
    findings.problem(
        dataset.folder_path,
        f"{count} no caption: {names}. Looked for {looked_for(bare[0], extension)}.{hint} Write captions, or set "
        '`default_caption` ("" trains with empty captions)' + ("" if dataset.is_reg else " or `trigger_word`"),
    )


def _read_own(
    dataset: DatasetConfig, image: Path, folder: CaptionFolder, unused: Counter[str], findings: Findings
) -> CaptionTexts | None:
    """The texts of an image's caption file; None if there is none."""
    path = None
    try:
        path = folder.find(image, dataset.caption_ext)
        if path is None:
            return None
        return read_texts(path, caption_per_line=dataset.caption_per_line, unused=unused)
    except FileNotFoundError:
        return None
    except CaptionError as error:
        findings.problem(path or image, str(error))
        return CaptionTexts()
