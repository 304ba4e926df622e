"""Checks a drawing job before any weights are loaded or anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extensions_built_in.generator.adapter_check import check_checkpoints, without_images
from extensions_built_in.generator.lora_check import check_loras
from jobs.process.model_files import check_model_files
from jobs.process.parts_check import check_adapters, sample_problems
from jobs.process.room_check import take_memory
from jobs.process.start import Start
from jobs.process.training_checked import TrainingChecked
from toolkit.compute.compute_check import compute_problems
from toolkit.config import AdapterConfig
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.config.compat.released import label_of
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.columns import columns_of
from toolkit.draw.pictures import Picture, digest_of, identity_of, missing, pictures_of
from toolkit.errors import JobError, Mistakes, Problem
from toolkit.output.disk import check_output_folder
from toolkit.plan.cards.split_check import split_problems
from toolkit.plan.stage_list import describe_stages
from toolkit.train.tasks.sample_needs import drawn_items, needs_of_items, view_problems

_BYTES_PER_PX = 3  # of a picture that is not compressed
_OF_THE_MODEL = ("arch", "name_or_path", "qtype", "quantize", "compute", "model_paths", "vae_path", "te_name_or_path")


@dataclass(frozen=True)
class DrawChecked(TrainingChecked):
    """What is known about a drawing job; its `start` has the settings as those of a training that only samples.

    Attributes:
        drawing: the settings of the job.
        pictures: what the job draws, in order.
    """

    drawing: GenerateProcessConfig | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def left(self) -> tuple[Picture, ...]:
        """The pictures that are not there yet."""
        return missing(self.pictures, self.start.output_folder)

    def facts(self) -> dict[str, Any]:
        """See Checked.facts."""
        return {**super().facts(), "pictures": len(self.pictures), "pictures_left": len(self.left)}


def check_drawing(start: Start) -> DrawChecked:
    """Check a drawing job: its model and LoRA files, its reference images, and the room that it needs.

    Each step adds its findings and continues with what is known, so that the user hears of everything at once.
    """
    drawing, mistakes = start.config, Mistakes()
    assert isinstance(drawing, GenerateProcessConfig)
    checked = _described(start, drawing)
    card, config, source = checked.card, checked.config, str(start.job.path)
    is_here = start.vram_gb is None
    items = [picture.item for picture in checked.pictures]
    problems = [*beyond_the_model(config, card), *sample_problems(config, card), *view_problems(items)]
    blind, warnings = without_images(drawing, items)
    problems += blind
    checked = checked.adding(*map(start.job.redact, warnings))
    problems += compute_problems(config, is_here=is_here)
    problems += split_problems(config, world=start.ranks.world, is_here=is_here)
    if problems:
        mistakes.errors.append(JobError(source, [_at_home(problem) for problem in problems]))
    model = check_model_files(config, card, mistakes, source=source)
    model = replace(model, num_assistant_weights=check_loras(drawing, card, mistakes))
    checked = replace(checked, model=model, encoders=check_adapters(config, card, mistakes))
    check_checkpoints(drawing, card, mistakes)
    if not mistakes:
        checked = _with_room(
            replace(checked, needs=needs_of_items([one.item for one in checked.left], config, card)), mistakes
        )
    return checked.refused(mistakes.error(source, checked.notices)) if mistakes else checked


def _described(start: Start, drawing: GenerateProcessConfig) -> DrawChecked:
    """What the job will do, as far as its settings tell."""
    items = drawing.generate.items(drawing.trigger_word)
    pictures: list[Picture] = []
    columns, model = columns_of(drawing), _model_facts(drawing)
    config = drawing.as_training(items, start.job.name)
    hashes = {path: digest_of(path) for column in columns for path, _ in column.loras}
    for number, column in enumerate(columns):
        facts = {**model, "loras": [(hashes[path], weight) for path, weight in column.loras]}
        if column.adapter is not None:
            facts["adapter"] = digest_of(column.adapter)
        drawn = drawn_items(map(column.of, items), config)
        pictures += pictures_of(drawn, facts, extension=drawing.generate.ext, column=number)
    checked = DrawChecked(replace(start, config=config), drawing=drawing, pictures=tuple(pictures))
    section = drawing.model.model_dump(mode="json")
    label = label_of(section, checked.card)
    loras = "".join(f" + {one.path.name} x {one.weight:g}" for one in drawing.loras)
    adapters = "".join(f" + {one.type} adapter" for one in drawing.adapter)
    there = sum((checked.start.output_folder / picture.file).is_file() for picture in pictures)
    done = f", {there} of them are there already" if there else ""
    what = f"{len(pictures)} pictures with {label}{adapters}{loras}{done}"
    title = f"{start.job.name}: {what} -> {checked.start.output_folder}"
    return replace(checked, lines=(title,))


def _model_facts(drawing: GenerateProcessConfig) -> dict[str, Any]:
    """What all pictures depend on: of weights on this machine also size and time, since a training rewrites them."""
    section = drawing.model.model_dump(mode="json")
    sources = [section["name_or_path"], *map(drawing.model.source_of, ("transformer", "vae", "text_encoder"))]
    return {
        "model": {key: section[key] for key in _OF_THE_MODEL},
        "files": [identity_of(Path(source).expanduser()) for source in sources if source],
        "kwargs": section["model_kwargs"],
        "dtype": drawing.dtype,
    } | ({"adapters": list(map(_adapter_facts, drawing.adapter))} if drawing.adapter else {})


def _adapter_facts(adapter: AdapterConfig) -> dict[str, Any]:
    """The pictures that it sees are facts of each prompt."""
    path = adapter.name_or_path
    assert path is not None, "the section requires it"
    return adapter.model_dump(mode="json", exclude={"test_img_path"}) | {"name_or_path": digest_of(path)}


def _with_room(checked: DrawChecked, mistakes: Mistakes) -> DrawChecked:
    """What the job will take. The settings that `model.memory: auto` chooses apply to it from here on."""
    lines = list(_resources(checked))
    without = None if checked.left else "memory: nothing is left to draw"
    checked = take_memory(checked, lines, mistakes, without=without)
    start = checked.start
    if start.vram_gb is None:
        with mistakes.gathered():
            largest = sum(one.item.width * one.item.height for one in checked.left) * _BYTES_PER_PX
            check_output_folder(start.output_folder, needed=largest)
    return checked.adding(*lines)


def _resources(checked: DrawChecked) -> Iterator[str]:
    yield checked.start.describe_device()
    yield describe_stages(checked.needs)


def _at_home(problem: Problem) -> Problem:
    """A problem of a sample, where a drawing job has it."""
    where = problem.where.replace("sample.samples[", "generate.prompts[").replace("sample", "generate", 1)
    return replace(problem, where=where if problem.where.startswith("sample") else problem.where)
