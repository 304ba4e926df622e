"""The process behind `job: generate`: encodes the prompts, then draws them with the transformer, one after another."""

from __future__ import annotations

import itertools
import secrets
from contextlib import ExitStack
from dataclasses import replace

import torch

from extensions_built_in.generator.artist import make_artist
from extensions_built_in.generator.drawing_check import DrawChecked, check_drawing
from extensions_built_in.generator.written import planned, write_picture, write_sheet
from jobs.process.BaseProcess import BaseProcess
from jobs.process.encode_stages import encode_for_drawing
from jobs.process.make_model import make_model
from jobs.process.output import Output, open_output
from jobs.process.start import Start
from toolkit.config import SampleItem
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.artist import RANDOM_SEEDS
from toolkit.draw.columns import columns_of
from toolkit.draw.pictures import Picture
from toolkit.draw.stopping import ends_on
from toolkit.encode.leftovers import sweep_half_written
from toolkit.errors import Interrupted
from toolkit.models.base_model import BaseModel
from toolkit.plan.stage_list import DRAW
from toolkit.runtime.stop import StopRequest
from toolkit.train.feed.encoded import Encoded


class Generator(BaseProcess):
    """Draws the pictures of a job that are not in its folder yet."""

    checked: DrawChecked

    @classmethod
    def check(cls, start: Start) -> DrawChecked:
        """See BaseProcess.check."""
        return check_drawing(start)

    @property
    def drawing(self) -> GenerateProcessConfig:
        """The settings of the job."""
        assert self.checked.drawing is not None
        return self.checked.drawing

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run. A picture is whole or not there, so a stopped job continues where it was."""
        checked, left = self.checked, self.checked.left
        plan = checked.memory.plan if checked.memory else None
        sweep_half_written(checked.config, self.output_folder)
        with open_output(checked.start, plan, run=self.record.run if self.record else None) as out:
            out.events.write("pictures", **planned(checked, self.drawing))
            if not left:
                out.stages.info(f"all {len(checked.pictures)} pictures are in {self.output_folder}")
                self._write_sheet(out)
                return
            model = make_model(checked, notify=out.stages.info, count=out.stages.count)
            model.check_access()
            encoded = encode_for_drawing(checked, model, out, stop)
            with out.stages.stage(DRAW.name):
                with stop.ends_at_once(DRAW.stopped):
                    model.load("vae")
                    model.load("transformer")
                num_drawn = self._draw(model, encoded, left, out, stop)
            out.stages.info(f"{num_drawn} pictures drawn: {self.output_folder}")
            if num_drawn == len(left):
                self._write_sheet(out)
            else:
                raise Interrupted(f"Stopped after {num_drawn} of {len(left)} pictures, which are kept.")

    def _draw(
        self, model: BaseModel, encoded: Encoded, left: tuple[Picture, ...], out: Output, stop: StopRequest
    ) -> int:
        """Draw pictures until a stop is requested. Returns how many were drawn."""
        num_drawn, columns = 0, columns_of(self.drawing)
        artist, loras = make_artist(self.checked, self.drawing, model, encoded)
        with (
            torch.no_grad(),
            ends_on(model.transformer, lambda: stop.requested),
            artist.pipeline() as pipeline,
            ExitStack() as stack,
        ):
            for number, pictures in itertools.groupby(left, key=lambda picture: picture.column):
                stack.close()
                stack.enter_context(loras.attached(columns[number].loras, columns[number].adapter))
                own = list(pictures)
                for group in artist.groups([picture.item for picture in own], most=self.checked.sample_batch):
                    items = [_with_seed(own[index].item) for index in group]
                    images = artist.draw(pipeline, items)
                    if self.record is not None:
                        out.must_be_in_place(self.record)
                    for index, item, image in zip(group, items, images, strict=True):
                        path = self.output_folder / own[index].file
                        write_picture(image, path, item, columns[number], self.checked, self.drawing)
                        num_drawn += 1
                        self._tell(own[index], item, out)
                        out.stages.count(num_drawn, len(left), "pictures")
        return num_drawn

    def _write_sheet(self, out: Output) -> None:
        if (path := write_sheet(self.checked, self.drawing)) is not None:
            out.stages.info(f"sheet: {path}")

    def _tell(self, picture: Picture, item: SampleItem, out: Output) -> None:
        out.events.write(
            "sample",
            path=picture.file,
            step=0,
            index=picture.index,
            prompt=out.stages.redact(item.prompt),
            seed=item.seed,
            width=item.width,
            height=item.height,
            network_multiplier=item.network_multiplier,
        )


def _with_seed(item: SampleItem) -> SampleItem:
    """The item, with a random seed if it asks for one."""
    return item if item.seed >= 0 else replace(item, seed=secrets.randbelow(RANDOM_SEEDS))
