"""The job of a try-out, made from what a page has chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.draw_command import process_of_model, process_of_run
from toolkit.cards import find_cards
from toolkit.config.drawing.generate import GenerateConfig
from toolkit.errors import UserError
from ui.server.actions import Actions
from ui.server.actions.output_folders import free_name
from ui.server.jobs.job import Job
from ui.server.refusal import Refusal
from ui.server.schemas import Problem, TryoutDraft, TryoutRequest, TryoutStart
from ui.server.tryout.loras import require_lora
from ui.server.words import clean

MOST_PICTURES = 5_000
_SHOWN = ("width", "height", "sample_steps", "guidance_scale", "seed")


def start_of(job: Job | None, arch: str | None, folder: Path) -> TryoutStart:
    """What a try-out begins with: the samples of a run, or the defaults of a model.

    Args:
        job: the run; None for a model alone.
        arch: the model, without a run.
        folder: for output, in which the name must be free.

    Raises:
        Refusal: the run cannot be drawn with, or there is no such model.
    """
    process = _process(job, arch)
    generate = {**_defaults(str(process["model"].get("arch"))), **process["generate"]}
    prompts = [it if isinstance(it, str) else it.get("prompt", "") for it in generate.get("prompts", [])]
    stem = "tryout" if job is None else f"{job.folder.name}_tryout"
    name = free_name(folder, stem) or stem
    shown = {key: generate[key] for key in _SHOWN}
    return TryoutStart(name=clean(name), prompts=[clean(str(prompt)) for prompt in prompts], **shown)


def draft_of(request: TryoutRequest, job: Job | None, folder: Path, actions: Actions) -> TryoutDraft:
    """The text of the job.

    Args:
        request: what was chosen.
        job: the run that it names; None if it names none.
        folder: for output.
        actions: know which folders are taken.
    """
    problems: list[Problem] = []
    try:
        process = _process(job, request.arch)
    except Refusal as refusal:
        return TryoutDraft(yaml=None, num_pictures=0, problems=refusal.problems)
    files: list[str] = []
    for number, path in enumerate(request.loras):
        try:
            files.append(str(require_lora(path, actions.roots, f"loras.{number}")))
        except Refusal as refusal:
            problems += refusal.problems
    prompts = [prompt.strip() for prompt in request.prompts if prompt.strip()]
    strengths = [value for value in dict.fromkeys(request.strengths) if value]
    seeds, files = list(dict.fromkeys(request.seeds)), list(dict.fromkeys(files))
    num = len(prompts) * len(seeds) * (request.has_base + len(files) * len(strengths))
    problems += _missing(prompts=prompts, seeds=seeds, strengths=strengths if files else [1.0])
    if not request.loras and not request.has_base:
        problems.append(_problem("loras", "Choose a LoRA, or draw without one."))
    if num > MOST_PICTURES:
        problems.append(_problem("", f"This makes {num:,} pictures; at most {MOST_PICTURES:,} are drawn in one job."))
    entry = {key: value for key, value in process.items() if key not in ("loras", "checkpoints", "output_folder")}
    entry |= {"training_folder": str(folder), "sheet": "grid"}
    entry |= {"checkpoints": files, "strengths": [0.0] * request.has_base + strengths}
    entry["generate"] = _generate(process["generate"], request) | {"prompts": prompts, "seeds": seeds}
    tree = {"job": "generate", "config": {"name": request.name, "process": [entry]}}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    problems += _place_problems(text, actions)
    return TryoutDraft(yaml=None if problems else clean(text), num_pictures=num, problems=problems)


def _process(job: Job | None, arch: str | None) -> dict[str, Any]:
    if job is not None:
        try:
            process = process_of_run(str(job.folder), has_loras=True)[1]
            if process.get("adapter"):
                raise UserError("The run trains adapters: to draw with them, use `run.py --sample`.")
            return process
        except UserError as error:
            raise Refusal(422, str(error).removeprefix(f"--sample {job.folder}: "), "run") from error
    card = find_cards().get(arch or "")
    if card is None:
        raise Refusal(422, "Choose a run or a model to draw with.", "arch")
    return process_of_model(card.source, card.arch)[1]


def _defaults(arch: str) -> dict[str, Any]:
    """The settings of pictures where nobody has chosen any: of the model, else of all."""
    found = {key: GenerateConfig.model_fields[key].default for key in _SHOWN}
    card = find_cards().get(arch)
    own = card.defaults.get("sample", {}) if card is not None else {}
    return found | {key: value for key, value in own.items() if key in _SHOWN}


def _generate(of_run: dict[str, Any], request: TryoutRequest) -> dict[str, Any]:
    """Settings of the run's samples that the page does not show stay as they are."""
    kept = {key: value for key, value in of_run.items() if key in ("neg", "walk_seed", "network_multiplier")}
    own = ("width", "height", "sample_steps", "guidance_scale")
    return kept | {"walk_seed": False, "network_multiplier": 1.0} | {key: getattr(request, key) for key in own}


def _missing(**lists: list[Any]) -> list[Problem]:
    words = {"prompts": "Write a prompt.", "seeds": "Give a seed.", "strengths": "Give a strength other than 0."}
    return [_problem(name, words[name]) for name, values in lists.items() if not values]


def _place_problems(text: str, actions: Actions) -> list[Problem]:
    try:
        folder = actions.folders.folder_of(text)
    except Refusal as refusal:
        names = {"config.name": "name", "training_folder": "name"}
        return [it.model_copy(update={"where": names.get(it.where, it.where)}) for it in refusal.problems]
    if folder.exists() and any(folder.iterdir()):
        return [actions.folders.taken(folder, text).model_copy(update={"where": "name", "fix": None})]
    return []


def _problem(where: str, what: str) -> Problem:
    return Problem(severity="error", where=where, what=what)
