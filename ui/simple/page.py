"""The Gradio page: a form, the captions in one table, the check, and the job as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from toolkit.cards import ModelCard, find_cards
from toolkit.errors import UserError
from ui.server.refusal import Refusal
from ui.simple.caption_table import Read, caption_rows, rows_of_folder
from ui.simple.desk import Desk, View, describe, describe_check
from ui.simple.job_text import SIZES, Choices, job_name, job_text, suggested_steps
from ui.simple.pictures import Clash, add_files, captions, write_captions

Rows = list[list[Any]] | None

FAMILY = "flux2"
_THUMB_PX = 512
_SYSTEM = ["system-ui", "sans-serif"]


def theme() -> Any:
    """Fonts of this machine only: the page asks no other host for anything."""
    return gr.themes.Base(font=_SYSTEM, font_mono=["ui-monospace", "monospace"])


def models() -> list[ModelCard]:
    """The models that the page offers: those that draw from text alone and are trained as they are."""
    return [
        card for card in find_cards().values() if card.family == FAMILY and "fixed_guidance" not in card.capabilities
    ]


def build(desk: Desk) -> gr.Blocks:
    """The page. Every handler answers in words; none raises.

    Args:
        desk: does the work.
    """
    handlers = _Handlers(desk)
    cards = models()
    first = desk.services.settings.read().default_arch
    first = first if first in {card.arch for card in cards} else cards[0].arch
    with gr.Blocks(title="FLUX.2 trainer", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown("# FLUX.2 trainer\nDrop 10 to 50 pictures, say what each one shows, and start.")
        with gr.Row():
            with gr.Column():
                model = gr.Dropdown(
                    [(card.label, card.arch) for card in cards], value=first, label="Model", elem_id="model"
                )
                about = gr.Markdown(_about(first))
                name = gr.Textbox(
                    "my_lora", label="Name", info="Name of the output folder.", max_length=60, elem_id="name"
                )
                trigger = gr.Textbox(
                    label="Trigger word",
                    info="A made-up word for what is learned; use it in the captions.",
                    max_length=60,
                    elem_id="trigger",
                )
                size = gr.Radio(list(SIZES), value="usual", label="Image size", elem_id="size")
                with gr.Accordion("More", open=False):
                    rank = gr.Slider(4, 128, value=16, step=4, label="Rank", info="How much the LoRA can learn.")
                    lr = gr.Number(1e-4, label="Learning rate", minimum=0)
                steps = gr.Number(
                    1000, label="Steps", precision=0, minimum=1, info="About 100 per picture.", elem_id="steps"
                )
            with gr.Column():
                files = gr.File(
                    label="Pictures, and .txt files with captions if you have them",
                    file_count="multiple",
                    file_types=["image", ".txt"],
                    height=160,
                    elem_id="files",
                )
                table = gr.Dataframe(
                    headers=["picture", "caption"],
                    datatype="str",
                    type="array",
                    column_count=2,
                    static_columns=[0],
                    wrap=True,
                    label="Captions",
                    max_height=360,
                    elem_id="table",
                )
                prompts = gr.Textbox(
                    "a photo of [trigger]",
                    lines=3,
                    label="Sample prompts",
                    info="One per line; drawn while training.",
                    elem_id="prompts",
                )
        with gr.Row():
            check = gr.Button("Check and plan")
            start = gr.Button("Start", variant="primary")
        said = gr.Textbox(label="Check", lines=8, max_lines=20, interactive=False, elem_id="said")
        with gr.Row():
            job = gr.Dropdown([], label="Job", scale=4, elem_id="job")
            stop = gr.Button("Stop and save", variant="stop", scale=1)
        state = gr.Textbox(label="State", lines=3, interactive=False, elem_id="state")
        samples = gr.Gallery(
            label="Samples", columns=4, height=420, object_fit="contain", buttons=["download"], elem_id="samples"
        )
        log = gr.Textbox(label="Log", lines=8, interactive=False, elem_id="log")
        seen = gr.State(("", ""))
        read = gr.State(("", {}))  # the name whose captions the table shows, and these as they were read
        form = [model, name, trigger, size, steps, rank, lr, prompts, table, read]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        private: dict[str, Any] = {"api_visibility": "private"}
        model.change(_about, model, about, **private)
        files.upload(handlers.add, [name, files, table, read], [files, table, read, steps, said], **private)
        name.submit(handlers.captions, name, [table, read], **private)
        table.input(handlers.write, [name, table, read], [said, table, read], **quiet)
        check.click(handlers.check, form, [said, table, read], **private)
        start.click(handlers.start, form, [said, table, read, job], **private)
        stop.click(handlers.stop, job, said, **private)
        shown = [state, samples, log, seen]
        page.load(handlers.open, None, job, **private).then(handlers.look, [job, seen], shown, **quiet)
        job.change(handlers.look, [job, seen], shown, **quiet)
        gr.Timer(1.0).tick(handlers.look, [job, seen], shown, **quiet)
    return page


class _Handlers:
    """What the page's events call."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def add(self, name: str, uploads: list[str] | None, rows: Rows, read: Read) -> tuple[Any, ...]:
        """Take dropped files; keep what has been typed."""
        try:
            folder, clashes = self._keep(name, rows, read)
            refused = add_files(folder, [Path(upload) for upload in uploads or []])
        except (UserError, OSError) as error:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), str(error)
        table, read = caption_rows(name, folder)
        said = ["Not taken:", *refused] if refused else [f"{len(table)} pictures in {folder}"]
        return None, table, read, suggested_steps(len(table)), _lines([*said, *clashes])

    def captions(self, name: str) -> tuple[Any, ...]:
        """The pictures that a name has already."""
        try:
            return caption_rows(name, self._folder(name))
        except (UserError, OSError):
            return gr.skip(), gr.skip()

    def write(self, name: str, rows: Rows, read: Read) -> tuple[Any, ...]:
        """Keep what has been typed. The table is drawn again only where someone else has changed what was typed."""
        if read[0] != name:
            return "Press Enter in the field Name to see the captions of this name.", gr.skip(), gr.skip()
        try:
            folder, clashes = self._keep(name, rows, read)
        except (UserError, OSError) as error:
            return str(error), gr.skip(), gr.skip()
        table, (_, now) = caption_rows(name, folder)
        if clashes:
            return _lines(clashes), table, (name, now)
        shown = {row[0]: row[1] for row in rows_of_folder(rows, folder) if row[1] == now[row[0]]}
        return gr.skip(), gr.skip(), (name, read[1] | shown)

    def check(self, *form: Any) -> tuple[Any, ...]:
        """Check and plan."""
        return self._checked(form, lambda text: (describe_check(self.desk.check(text)), gr.skip()))[:3]

    def start(self, *form: Any) -> tuple[Any, ...]:
        """Check, then put the job into the queue."""

        def begin(text: str) -> tuple[str, Any]:
            report = self.desk.check(text)
            if not report.ok:
                return describe_check(report), gr.skip()
            job_id = self.desk.start(text)
            return describe_check(report), gr.Dropdown(self.desk.jobs(), value=job_id)

        return self._checked(form, begin)

    def _checked(self, form: Sequence[Any], then: Callable[[str], tuple[str, Any]]) -> tuple[Any, ...]:
        """What is said, the table, what is remembered of it, and what else `then` gives."""
        shown: tuple[Any, ...] = (gr.skip(), gr.skip())
        try:
            *fields, read = form
            folder, clashes = self._keep(fields[1], fields[-1], read)
            shown = caption_rows(fields[1], folder)
            if clashes:
                return _lines(clashes), *shown, gr.skip()
            said, more = then(self._text(folder, *fields[:-1]))
        except (UserError, OSError) as error:
            return str(error), *shown, gr.skip()
        except Refusal as refusal:
            return _words(refusal), *shown, gr.skip()
        return said, *shown, more

    def stop(self, job_id: str | None) -> str:
        """Stop the job that is shown."""
        if not job_id:
            return "Choose a job first."
        try:
            self.desk.stop(job_id)
        except Refusal as refusal:
            return _words(refusal)
        except OSError as error:
            return str(error)
        return "Stopping: it finishes its step and saves."

    def open(self) -> Any:
        """The jobs there are; the newest is shown."""
        jobs = self.desk.jobs()
        return gr.Dropdown(jobs, value=jobs[0][1] if jobs else None)

    def look(self, job_id: str | None, seen: tuple[str, str]) -> tuple[Any, ...]:
        """The job that is shown, as it is now. Pictures are sent only where there are new ones."""
        if not job_id:
            return "No job yet.", gr.skip(), "", seen
        try:
            view = self.desk.look(job_id)
        except Refusal as refusal:
            return _words(refusal), gr.skip(), "", seen
        except OSError as error:
            return str(error), gr.skip(), "", seen
        newest = (job_id, str(view.samples[0][0]) if view.samples else "")
        pictures = gr.skip() if newest == tuple(seen or ()) else self._thumbs(view)
        return describe(view), pictures, view.log, newest

    def _thumbs(self, view: View) -> list[tuple[str, str]]:
        """The pictures of a job, small; one that is damaged is left out.

        Files, not images in memory: Gradio writes an image into its cache again for each tab that shows it, over the
        file that another tab is just reading.
        """
        shown: list[tuple[str, str]] = []
        for path, text in view.samples:
            with contextlib.suppress(Refusal, OSError):
                shown.append((str(self.desk.services.thumbs.file(path, _THUMB_PX)), text))
        return shown

    def _folder(self, name: str) -> Path:
        return self.desk.datasets / job_name(name or "")

    def _keep(self, name: str, rows: Rows, read: Read) -> tuple[Path, list[Clash]]:
        """Write what has been typed, if the table shows the pictures of this name."""
        folder = self._folder(name)
        if read[0] != name:
            return folder, []
        return folder, write_captions(folder, rows_of_folder(rows, folder), read[1])

    def _text(
        self, folder: Path, arch: str, name: str, trigger: str, size: str, steps: Any, rank: Any, lr: Any, prompts: str
    ) -> str:
        """The job that the form asks for."""
        if not captions(folder):
            raise UserError("Pictures: drop some first.")
        for label, value in (("Steps", steps), ("Rank", rank), ("Learning rate", lr)):
            if not value or value <= 0:
                raise UserError(f"{label}: write a number above 0.")
        chosen = Choices(
            name=name or "",
            trigger=trigger or "",
            folder=folder,
            output=self.desk.output,
            size=size,
            steps=int(steps),
            rank=int(rank),
            lr=float(lr),
            prompts=(prompts or "").splitlines(),
        )
        return job_text(chosen, find_cards()[arch])


def _about(arch: str) -> str:
    card = find_cards()[arch]
    gate = " Accept its licence on huggingface.co first, and put HF_TOKEN into `.env`." if card.is_gated else ""
    return f"{card.summary} Licence: {card.license}.{gate}"


def _lines(words: Iterable[object]) -> str:
    return "\n".join(map(str, words))


def _words(refusal: Refusal) -> str:
    return "\n".join(
        f"{problem.where}: {problem.what}" if problem.where else problem.what for problem in refusal.problems
    )
