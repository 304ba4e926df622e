"""Proposed captions beside those that already exist, and what people decide about them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from toolkit.config.datasets.captions import with_dot
from toolkit.data.captions.proposals import PROPOSALS_FILE, Proposal, append_proposals, read_proposals
from toolkit.data.captions.texts import plain
from ui.server.datasets.album import Album, Caption, Picture
from ui.server.datasets.captions import Changed, check_text, write_changed
from ui.server.datasets.library import OWN, Library
from ui.server.datasets.names import CAPTION_EXTENSION
from ui.server.datasets.undo import Journal
from ui.server.jobs.folders import job_id
from ui.server.jobs.job import Job
from ui.server.jobs.settings import CAPTIONS, folder_of
from ui.server.refusal import Refusal
from ui.server.schemas import CaptionJob, Decided, Decision, ProposalRow, Proposals, UndoStep
from ui.server.words import clean


@dataclass(frozen=True)
class Placed:
    """A proposal whose picture is there.

    Attributes:
        proposal: as it was written last; with an empty text it was skipped.
        dataset: id of the dataset that the picture is in.
        album: of that dataset.
        picture: in the album.
        caption: that the picture has now.
    """

    proposal: Proposal
    dataset: str
    album: Album
    picture: Picture
    caption: Caption

    @property
    def is_open(self) -> bool:
        """Whether nobody has decided about it, or what was accepted was undone, and the picture has another caption."""
        is_decided = not self.proposal.text or (self.proposal.is_accepted and self.is_conflict)
        return not is_decided and self.proposal.text != self.caption.text and not self.caption.trouble

    @property
    def is_conflict(self) -> bool:
        """Whether the caption was changed since it was proposed. One in a list counts as none, as for the job."""
        return _own(self.caption) != self.proposal.before


class Review:
    """The proposals of a captioning job.

    Args:
        job: the job.
        library: has the datasets that its pictures are in.

    Raises:
        Refusal: it is another kind of job, or its captions are not those that the page edits.
    """

    def __init__(self, job: Job, library: Library) -> None:
        if job.settings.kind != CAPTIONS or job.settings.source is None:
            raise Refusal(409, "This job proposes no captions.")
        extension = with_dot(job.settings.caption_extension or CAPTION_EXTENSION)
        if extension != CAPTION_EXTENSION:
            what = f"The page edits {CAPTION_EXTENSION} files, and this job's captions are {extension} files."
            raise Refusal(409, f"{what} Start it again with `accept: true` to write them.")
        self.job = job
        self.library = library
        self.folder = folder_of(job.settings.source)
        self.file = library.roots.require(job.folder / PROPOSALS_FILE)

    def placed(self) -> Iterator[Placed]:
        """Every proposal whose picture is there, in the order in which they were made."""
        return self._placed(read_proposals(self.file).values())

    def page(self, *, offset: int, limit: int) -> Proposals:
        """Some of those that are open."""
        made = read_proposals(self.file).values()
        found = [it for it in self._placed(made) if it.is_open]
        own = self._album(self.folder)
        return Proposals(
            dataset=own[0] if own is not None else None,
            folder=clean(str(self.folder)),
            num_made=len(made),
            total=len(found),
            offset=offset,
            rows=[_row(it) for it in found[offset : offset + limit]],
        )

    def decide(self, decisions: Sequence[Decision]) -> Decided:
        """Carry out what was decided. A caption that was changed since it was shown stays, and so does its proposal.

        Raises:
            Refusal: a proposal is gone, or a text cannot be a caption; then nothing is done.
        """
        there = {clean(it.proposal.image): it for it in self.placed()}
        lines, accepted = list[Proposal](), dict[str, list[tuple[Placed, Decision]]]()
        for decision in {it.image: it for it in decisions}.values():
            it = there.get(decision.image)
            if it is None:
                raise Refusal(404, f"There is no proposal for {decision.image} any more. Reload the page.")
            if decision.action == "accept":
                if not decision.text.strip():
                    raise Refusal(422, f"The caption of {decision.image} is empty. Write one, or skip it.", "text")
                check_text(plain(decision.text.strip()), decision.image)
                accepted.setdefault(it.dataset, []).append((it, decision))
            elif decision.action == "skip":
                lines.append(replace(it.proposal, text=""))
            else:
                lines.append(replace(it.proposal, text=decision.text))
        num_written, kept, steps = 0, list[str](), dict[str, UndoStep]()
        for dataset, pairs in accepted.items():
            written, stay, step = self._accept(pairs)
            lines += written
            kept += stay
            if step is not None:
                num_written += step.num_captions
                steps[dataset] = step
        append_proposals(self.file, lines)
        only = next(iter(steps)) if len(steps) == 1 else None
        return Decided(
            num_written=num_written, kept=list(map(clean, kept)), dataset=only, undo=steps[only] if only else None
        )

    def _accept(self, pairs: Sequence[tuple[Placed, Decision]]) -> tuple[list[Proposal], list[str], UndoStep | None]:
        """Write captions of one dataset: the proposals as accepted, the pictures that keep theirs, and the way back."""
        album = pairs[0][0].album
        accepted, kept, changes = list[Proposal](), list[str](), list[Changed]()
        with album.lock:
            for it, decision in pairs:
                text = plain(decision.text.strip())
                now = album.caption(it.picture, is_fresh=True)
                if now.trouble or (now.tag != decision.if_match and now.text != text):
                    kept.append(it.proposal.image)
                    continue
                accepted.append(replace(it.proposal, text=text, before=_own(now), is_accepted=True))
                if now.text != text or now.is_listed:
                    changes.append(Changed(it.picture, now, text))
            if not changes:
                return accepted, kept, None
            name = clean(self.job.settings.name or self.job.folder.name)
            journal = Journal(album.folder / OWN)
            return accepted, kept, write_changed(album, changes, journal, f"captions of {name} accepted")

    def _placed(self, proposals: Iterable[Proposal]) -> Iterator[Placed]:
        known: dict[PurePosixPath, tuple[str, Album, Mapping[str, Picture]] | None] = {}
        for proposal in proposals:
            path = PurePosixPath(proposal.image)
            if path.is_absolute() or ".." in path.parts:
                continue
            if path.parent not in known:  # the folder is looked at once, not for each of thousands
                own = self._album(self.folder / path.parent)
                known[path.parent] = (*own, own[1].pictures()) if own is not None else None
            found = known[path.parent]
            if found is not None and (picture := found[2].get(path.name)) is not None:
                dataset, album, _ = found
                yield Placed(proposal, dataset, album, picture, album.caption(picture))

    def _album(self, folder: Path) -> tuple[str, Album] | None:
        """The dataset of a folder; None if it is none."""
        root = self.library.roots.root_of(folder)
        if root is None:
            return None
        id_ = job_id(root, Path(os.path.realpath(folder)))
        try:
            return id_, self.library.album(id_)
        except Refusal:
            return None


def jobs_of(folder: Path, jobs: Sequence[Job], library: Library) -> list[CaptionJob]:
    """The jobs that have open proposals for a dataset, the newest first."""
    found = []
    for job in sorted(jobs, key=lambda job: -job.changed):
        place = folder_of(job.settings.source or "")
        is_known = job.settings.kind == CAPTIONS and library.roots.holds(place)
        if not is_known or Path(os.path.realpath(place)) != folder:
            continue
        try:
            num = sum(it.is_open for it in Review(job, library).placed())
        except (Refusal, OSError):  # its captions are not edited here, or its folder is gone
            continue
        if num:
            found.append(CaptionJob(id=job.id, name=clean(job.settings.name or job.folder.name), num_open=num))
    return found


def _own(caption: Caption) -> str:
    """What the caption file of a picture says, which is all that a captioning job looks at."""
    return "" if caption.is_listed else caption.text


def _row(it: Placed) -> ProposalRow:
    return ProposalRow(
        image=clean(it.proposal.image),
        file=f"{it.dataset}-{it.picture.id}",
        before=clean(it.proposal.before),
        now=clean(it.caption.text),
        tag=it.caption.tag,
        text=clean(it.proposal.text),
        is_conflict=it.is_conflict,
    )
