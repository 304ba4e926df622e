"""Proposed captions beside those that there are, and what people decide about them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from toolkit.config.datasets.captions import with_dot
from toolkit.data.captions.proposals import PROPOSALS_FILE, Proposal, append_proposals, read_proposals
from toolkit.data.captions.texts import plain
from toolkit.extension import REPOSITORY
from ui.server.datasets.album import Album, Caption, Picture
from ui.server.datasets.captions import Changed, check_text, write_changed
from ui.server.datasets.library import OWN, Library
from ui.server.datasets.names import CAPTION_EXTENSION
from ui.server.datasets.undo import Journal
from ui.server.jobs.folders import job_id
from ui.server.jobs.job import Job
from ui.server.jobs.settings import CAPTIONS
from ui.server.refusal import Refusal
from ui.server.schemas import CaptionJob, Decided, Decision, ProposalRow, Proposals, UndoStep
from ui.server.words import clean


@dataclass(frozen=True)
class Placed:
    """A proposal whose picture is there.

    Attributes:
        proposal: as it was written last: with an empty text it was skipped, with its text before it was accepted.
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
        """Whether nobody has decided about it, and the picture does not have this caption anyway."""
        text = self.proposal.text
        return text not in ("", self.proposal.before, self.caption.text) and not self.caption.trouble

    @property
    def is_conflict(self) -> bool:
        """Whether the caption was changed since it was proposed. One in a list counts as none, as for the job."""
        return ("" if self.caption.is_listed else self.caption.text) != self.proposal.before


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
        known: dict[PurePosixPath, tuple[str, Album] | None] = {}
        for proposal in read_proposals(self.file).values():
            path = PurePosixPath(proposal.image)
            if path.is_absolute() or ".." in path.parts:
                continue
            if path.parent not in known:
                known[path.parent] = self._album(self.folder / path.parent)
            found = known[path.parent]
            picture = found[1].pictures().get(path.name) if found is not None else None
            if found is not None and picture is not None:
                yield Placed(proposal, *found, picture, found[1].caption(picture))

    def page(self, *, offset: int, limit: int) -> Proposals:
        """Some of those that are open."""
        found = [it for it in self.placed() if it.is_open]
        own = self._album(self.folder)
        return Proposals(
            dataset=own[0] if own is not None else None,
            folder=clean(str(self.folder)),
            num_made=len(read_proposals(self.file)),
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
        for decision in decisions:
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
                lines.append(replace(it.proposal, text=decision.text, before=decision.before))
        num_written, kept, steps = 0, list[str](), dict[str, UndoStep]()
        for dataset, pairs in accepted.items():
            changed, same, changed_since = self._accept(dataset, pairs, steps)
            num_written += len(changed)
            lines += [replace(it.proposal, text=text, before=text) for it, text in (*changed, *same)]
            kept += changed_since
        append_proposals(self.file, lines)
        only = next(iter(steps)) if len(steps) == 1 else None
        return Decided(
            num_written=num_written, kept=list(map(clean, kept)), dataset=only, undo=steps[only] if only else None
        )

    def _accept(
        self, dataset: str, pairs: Sequence[tuple[Placed, Decision]], steps: dict[str, UndoStep]
    ) -> tuple[list[tuple[Placed, str]], list[tuple[Placed, str]], list[str]]:
        """Write captions of one dataset: those written, those that were the same already, and the changed ones."""
        album = pairs[0][0].album
        written, same = list[tuple[Placed, str]](), list[tuple[Placed, str]]()
        kept, changes = list[str](), list[Changed]()
        with album.lock:
            for it, decision in pairs:
                text = plain(decision.text.strip())
                now = album.caption(it.picture, is_fresh=True)
                if now.text == text and not now.is_listed:
                    same.append((it, text))
                elif now.trouble or now.tag != decision.if_match:
                    kept.append(it.proposal.image)
                else:
                    written.append((it, text))
                    changes.append(Changed(it.picture, now, text))
            if changes:
                name = clean(self.job.settings.name or self.job.folder.name)
                journal = Journal(album.folder / OWN)
                steps[dataset] = write_changed(album, changes, journal, f"captions of {name} accepted")
        return written, same, kept

    def _album(self, folder: Path) -> tuple[str, Album] | None:
        """The dataset of a folder; None if it is none."""
        real = Path(os.path.realpath(folder))
        root = self.library.roots.root_of(real)
        if root is None:
            return None
        id_ = job_id(root, real)
        try:
            return id_, self.library.album(id_)
        except Refusal:
            return None


def jobs_of(folder: Path, jobs: Sequence[Job], library: Library) -> list[CaptionJob]:
    """The jobs that have open proposals for a dataset, the newest first."""
    found = []
    for job in sorted(jobs, key=lambda job: -job.changed):
        source = job.settings.source
        if job.settings.kind != CAPTIONS or source is None or Path(os.path.realpath(folder_of(source))) != folder:
            continue
        try:
            num = sum(it.is_open for it in Review(job, library).placed())
        except Refusal:  # its captions are not edited here
            continue
        if num:
            found.append(CaptionJob(id=job.id, name=clean(job.settings.name or job.folder.name), num_open=num))
    return found


def folder_of(source: str) -> Path:
    """The folder that a job text names, from where jobs are started."""
    return REPOSITORY / Path(source)


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
