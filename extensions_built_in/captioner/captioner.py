"""The process behind `type: caption`: proposes captions one picture after another, and writes them if asked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from extensions_built_in.captioner.captioning_check import CaptionChecked, Uncaptioned, check_captioning, is_part
from extensions_built_in.captioner.model_folder import SETTING, check_folder
from extensions_built_in.captioner.writer import CaptionWriter, load_picture, load_writer
from jobs.process.BaseProcess import BaseProcess
from jobs.process.start import Start
from toolkit.config.captioning.settings import CaptionConfig, CaptionProcessConfig
from toolkit.data.captions.proposals import PROPOSALS_FILE, CaptionFiles, Proposal, append_proposals, read_proposals
from toolkit.data.image_files import ImageError
from toolkit.errors import Interrupted
from toolkit.files import write_text
from toolkit.output.events import EventLog
from toolkit.plan.out_of_memory import explain_out_of_memory
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.stages import Stages
from toolkit.weights.hub import download, repository_files

STAGE = "caption"


class Captioner(BaseProcess):
    """Proposes captions for the pictures that have none yet."""

    checked: CaptionChecked

    @classmethod
    def check(cls, start: Start) -> CaptionChecked:
        """See BaseProcess.check."""
        return check_captioning(start)

    @property
    def settings(self) -> CaptionConfig:
        """What the job asks for."""
        config = self.config
        assert isinstance(config, CaptionProcessConfig)
        return config.caption

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run. Each proposal is on disk before the next one is made."""
        folder, job, checked = self.output_folder, self.job, self.checked
        write_text(folder / "config.yaml", job.as_written())
        with ExitStack() as stack:
            events = stack.enter_context(EventLog(folder / "events.jsonl"))
            progress = Progress()
            stack.callback(progress.close)
            run = self.record.run if self.record else None
            events.write("job", run=run, name=job.name, arch="", steps=len(checked.wanted))
            stages = Stages(events, progress, redact=job.redact)
            device = checked.start.find_device()
            with explain_out_of_memory(None, device, lambda: stages.current):
                if checked.left:
                    self._propose(torch.device(device), stages, stop)
            if self.settings.accept:
                self._accept(stages)
            else:
                made = read_proposals(folder / PROPOSALS_FILE)
                num_made = sum(it.name in made for it in checked.wanted)
                stages.info(f"{num_made} captions are proposed in {folder / PROPOSALS_FILE}; none is written yet")
            events.write("done")

    def _propose(self, device: torch.device, stages: Stages, stop: StopRequest) -> None:
        with stages.stage("load"), stop.ends_at_once("Stopped while the model was being loaded."):
            writer = load_writer(self._model_folder(), self.settings, device)
        wanted, left = self.checked.wanted, self.checked.left
        done = len(wanted) - len(left)
        with stages.stage(STAGE):
            for number, picture in enumerate(left, done + 1):
                if stop.requested:
                    raise Interrupted(f"Stopped after {number - 1} of {len(wanted)} pictures, whose captions are kept.")
                self._propose_one(writer, picture, stages)
                stages.count(number, len(wanted), "pictures")

    def _propose_one(self, writer: CaptionWriter, picture: Uncaptioned, stages: Stages) -> None:
        try:
            text = writer.caption(load_picture(picture.path, most_px=self.settings.max_res))
        except ImageError as error:  # it was sound when the job was checked
            stages.warn(f"{picture.name} is left out: {error}")
            return
        if not text:
            stages.warn(f"{picture.name} is skipped: the model returned no text for it. Try another `caption_prompt`")
            return
        proposal = Proposal(picture.name, f"{self.settings.prefix}{text}".strip(), picture.before, picture.key)
        append_proposals(self.output_folder / PROPOSALS_FILE, [proposal])

    def _accept(self, stages: Stages) -> None:
        file = self.output_folder / PROPOSALS_FILE
        proposals = read_proposals(file)
        wanted = [proposals[it.name] for it in self.checked.wanted if it.name in proposals]
        written = CaptionFiles(self.settings.path_to_caption, self.settings.caption_extension).accept(wanted)
        fresh = (it for it in wanted if it.text and not it.is_accepted and it.image not in written.kept)
        append_proposals(file, [replace(it, is_accepted=True) for it in fresh])
        stages.info(f"{written.num_written} captions written in {self.settings.path_to_caption}")
        for name in written.kept:
            stages.warn(f"{name}: its caption has changed since then and is kept")

    def _model_folder(self) -> Path:
        name = self.settings.model_name_or_path
        if Path(name).is_dir():
            return Path(name)
        files = {file: size for file, size in repository_files(name, setting=SETTING).items() if is_part(file)}
        folder = download(name, files, setting=SETTING)
        check_folder(folder)
        return folder
