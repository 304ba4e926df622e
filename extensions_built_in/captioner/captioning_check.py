"""Checks a captioning job: which pictures need a caption, and whether the pictures and the model can be read."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extensions_built_in.captioner.memory import CaptionMemory, memory_of
from extensions_built_in.captioner.model_folder import PARTS, SETTING, check_folder, local_folder
from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.config.captioning.settings import CaptionConfig, CaptionProcessConfig
from toolkit.data.captions.proposals import PROPOSALS_FILE, CaptionFiles, Proposal, read_proposals
from toolkit.data.captions.texts import CaptionError
from toolkit.data.image_files import IMAGES, ImageError
from toolkit.data.sources.folders import list_folder
from toolkit.data.sources.listing import Listing
from toolkit.errors import JobError, Mistakes, Problem, UserError
from toolkit.files import sha256_json
from toolkit.output.disk import check_output_folder
from toolkit.plan.machine import named_card, this_machine

_NAMED = 5
_OF_A_CAPTION = ("caption_prompt", "max_new_tokens", "max_res", "prefix", "dtype", "quantize", "qtype")
_BYTES = 10_000  # of a proposal at most, nearly always


@dataclass(frozen=True)
class Uncaptioned:
    """A picture that gets a caption proposal.

    Attributes:
        path: of the picture.
        name: relative to the folder, with `/`.
        before: its caption now; empty if it has none.
        key: see Proposal.
    """

    path: Path
    name: str
    before: str
    key: str


@dataclass(frozen=True)
class CaptionChecked(Checked):
    """What is known about a captioning job.

    Attributes:
        wanted: the pictures that get a proposal, in order.
        left: the pictures in `wanted` that have no proposal yet.
        memory: what the job takes; None if the model is not here yet, or nothing is left to do.
    """

    wanted: tuple[Uncaptioned, ...] = ()
    left: tuple[Uncaptioned, ...] = ()
    memory: CaptionMemory | None = None

    def facts(self) -> dict[str, Any]:
        """See Checked.facts."""
        memory = None if self.memory is None else self.memory.as_json()
        return {"pictures": len(self.wanted), "pictures_left": len(self.left), "memory": memory}


def check_captioning(start: Start) -> CaptionChecked:
    """Check a captioning job without loading the model. Everything that is wrong is said at once."""
    config, mistakes, notices = start.config, Mistakes(), list[str]()
    assert isinstance(config, CaptionProcessConfig)
    with mistakes.gathered():
        notices += _check_model(config.caption.model_name_or_path)
    wanted: tuple[Uncaptioned, ...] = ()
    with mistakes.gathered():
        wanted = _wanted(config.caption, notices)
    made = read_proposals(start.output_folder / PROPOSALS_FILE)
    left = tuple(it for it in wanted if not _is_made(it, made.get(it.name)))
    lines = [
        f"{start.job.name}: {len(wanted)} pictures of {config.caption.path_to_caption} get captions, "
        f"{len(left)} of them are left to do, by {config.caption.model_name_or_path} -> "
        + ("caption files next to them" if config.caption.accept else f"{start.output_folder / PROPOSALS_FILE}")
    ]
    lines.append(start.describe_device())
    with mistakes.gathered():
        check_output_folder(start.output_folder, needed=len(left) * _BYTES)
    memory: CaptionMemory | None = None
    with mistakes.gathered():
        memory = _memory(start, config.caption) if left and not mistakes else None
        if memory is not None:
            lines.append(memory.describe())
            if lack := memory.lack(can_quantize=not config.caption.quantize):
                raise UserError(lack)
    checked = CaptionChecked(start, (*lines, *notices), tuple(notices), wanted=wanted, left=left, memory=memory)
    return checked.refused(mistakes.error(str(start.job.path), checked.notices)) if mistakes else checked


def _check_model(name: str) -> Sequence[str]:
    folder = local_folder(name)
    if folder is not None:
        check_folder(folder)
        return ()
    from toolkit.weights.hub import repository_files

    files = repository_files(name, setting=SETTING)
    if not any(file.endswith(".safetensors") for file in files):
        raise UserError(f"{SETTING}: {name} has no weights (*.safetensors) on the hub.")
    num_bytes = sum(size for file, size in files.items() if is_part(file))
    return (f"notice: {name} is downloaded first: {num_bytes / 2**30:.1f} GB",)


def _memory(start: Start, config: CaptionConfig) -> CaptionMemory | None:
    folder = local_folder(config.model_name_or_path)
    if folder is None:
        return None
    if start.vram_gb is not None:
        return memory_of(folder, config, device="cuda", machine=named_card(start.vram_gb))
    try:
        device = start.find_device()
    except UserError:  # the plan's line on the device says so
        return None
    kind = device.partition(":")[0]
    return memory_of(folder, config, device=kind, machine=this_machine(device))


def is_part(file: str) -> bool:
    """Whether a file of a repository is needed: those of the model itself, not of other formats in its subfolders."""
    return "/" not in file and any(fnmatch.fnmatch(file, part) for part in PARTS)


def _wanted(config: CaptionConfig, notices: list[str]) -> tuple[Uncaptioned, ...]:
    """The pictures that get a proposal.

    Raises:
        UserError: there are none at all, or none that can be read.
    """
    folder, listing = config.path_to_caption, Listing()
    list_folder(folder, listing, leave_out=(), recursive=config.recursive)
    if listing.problems:
        raise JobError(str(folder), listing.problems)
    if not listing.images:
        nested = " Images in subfolders are included with `recursive: true`." if listing.nested else ""
        raise UserError(f"caption.path_to_caption: there are no pictures in {folder}.{nested}")
    files, found = CaptionFiles(folder, config.caption_extension), list[tuple[Path, str]]()
    unread = list[Problem]()
    for path in listing.images:
        try:
            before = files.text(path)
        except CaptionError as error:
            unread.append(Problem(path.name, f"its caption {error}"))
            continue
        has_one = before.strip() or listing.metadata.get(path)
        if config.recaption or not has_one:
            found.append((path, before))
    infos = IMAGES.inspect_all(path for path, _ in found)
    bad = {path: info for path, info in infos.items() if isinstance(info, ImageError)}
    unread += [Problem(path.name, str(error)) for path, error in bad.items()]
    notices += _left_out(unread)
    if bad and len(bad) == len(found):
        raise UserError(f"caption.path_to_caption: none of the pictures in {folder} can be read: {_first(bad)}")
    key = _key(config)
    return tuple(_as_wanted(path, before, folder, key) for path, before in found if path not in bad)


def _as_wanted(path: Path, before: str, folder: Path, key: str) -> Uncaptioned:
    status = path.stat()
    name = path.relative_to(folder).as_posix()
    return Uncaptioned(path, name, before, sha256_json([key, status.st_size, status.st_mtime_ns])[:16])


def _is_made(wanted: Uncaptioned, made: Proposal | None) -> bool:
    """Whether a proposal is that of the same picture, model and instruction, for the current caption."""
    return made is not None and made.key == wanted.key and wanted.before.strip() in (made.before.strip(), made.text)


def _key(config: CaptionConfig) -> str:
    section = config.model_dump(mode="json")
    folder = local_folder(config.model_name_or_path)
    weights = sorted(folder.glob("*.safetensors")) if folder is not None else []
    files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in weights]
    return sha256_json([section["model_name_or_path"], files, *(section[name] for name in _OF_A_CAPTION)])


def _left_out(unread: Sequence[Problem]) -> list[str]:
    lines = [f"warning: {it.where} is left out: {it.what}" for it in unread[:_NAMED]]
    more = len(unread) - _NAMED
    return [*lines, f"warning: {more} more pictures are left out"] if more > 0 else lines


def _first(bad: Mapping[Path, ImageError]) -> str:
    path, error = next(iter(bad.items()))
    return f"{path.name}: {error}"
