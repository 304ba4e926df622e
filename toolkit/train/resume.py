"""Where a start goes on from: which bundle, and what has to make way."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from toolkit.config.setting_changes import Difference
from toolkit.errors import UserError
from toolkit.output.bundles import (
    SET_ASIDE,
    STATE_FOLDER,
    BrokenBundle,
    Bundle,
    find_bundles,
    newest_bundle,
    read_bundle,
    set_aside,
    step_folders,
)
from toolkit.output.unowned import has_begun, must_not_be_read, unowned_files
from toolkit.train.run_facts import RunFacts, SettingsChanged, changes_since, differences_since, some_names

_GO_ON = (
    "To train on from weights among them, name them as network.pretrained_lora_path (in a full fine-tune as "
    "model.name_or_path); a start that begins anew, as `--resume none` does, leaves them there"
)
_MAKE_WAY = f"it would be overwritten, so it is first moved to `{SET_ASIDE}/`; nothing is deleted. {_GO_ON}"


@dataclass(frozen=True)
class ResumeChoice:
    """What the user said of where to go on.

    Attributes:
        source: `latest` of the job's folder, `none`, or another job's folder or bundle.
        step: that bundle and no other; None for the newest.
        accept_config_change: go on although settings that shape the training have changed.
    """

    source: Path | Literal["latest", "none"] = "latest"
    step: int | None = None
    accept_config_change: bool = False


@dataclass(frozen=True)
class ResumePlan:
    """Where a start goes on from.

    Attributes:
        bundle: None to begin at step 0.
        notices: what the user should know, one line each.
        superseded: bundles of steps that will be written again, to be set aside before the first of them.
        keeps_optimizer: whether the optimizer is the one whose state the bundle holds.
        unowned: files that would be overwritten and belong to no bundle of this run; they make way at once.
        differences: settings that the bundle was written with otherwise.
    """

    bundle: Bundle | None
    notices: tuple[str, ...] = ()
    superseded: tuple[Bundle | BrokenBundle, ...] = ()
    keeps_optimizer: bool = True
    unowned: tuple[Path, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def step(self) -> int:
        """Updates that are done."""
        return self.bundle.step if self.bundle else 0


def plan_resume(output_folder: Path, choice: ResumeChoice, facts: RunFacts, *, is_thorough: bool) -> ResumePlan:
    """Find the bundle to go on from, and compare the run with the one that wrote it. Writes nothing.

    Args:
        output_folder: the job's folder.
        choice: the user's.
        facts: of this start.
        is_thorough: read the bundle's whole state, not only the sizes of its files.

    Raises:
        UserError: there is no such bundle, every one is damaged, it lacks a part, or the settings do not fit it; or
            the job reads a file that would have to make way.
    """
    plan = _choose(output_folder, choice, facts, is_thorough=is_thorough)
    is_ours = plan.bundle is not None and plan.bundle.root.resolve() == output_folder.resolve()
    has_none_unfinished = plan.bundle is not None or not has_begun(output_folder)
    save = facts.config.get("save", {})
    unowned = unowned_files(
        output_folder,
        facts.job,
        after=plan.step,
        takes_final=not is_ours and not plan.superseded and has_none_unfinished,
        writes_folders=facts.config.get("network") is None and save.get("save_format") == "diffusers",
    )
    must_not_be_read(facts.config, unowned)
    return replace(plan, unowned=unowned)


def _choose(output_folder: Path, choice: ResumeChoice, facts: RunFacts, *, is_thorough: bool) -> ResumePlan:
    if choice.source == "none":
        return ResumePlan(None, superseded=_all_bundles(output_folder))
    root, only = output_folder, choice.step
    if isinstance(choice.source, Path):
        root, only = _place(choice.source, choice.step)
    bundle, passed_over = (
        (_bundle_of_step(root, only, is_thorough=is_thorough), [])
        if only is not None
        else newest_bundle(root, is_thorough=is_thorough)
    )
    notices = [f"{broken.folder}: passed over, {broken}" for broken in passed_over]
    if bundle is None:
        _refuse_to_lose(root, choice, passed_over)
        return ResumePlan(None, tuple(notices))
    is_ours = root.resolve() == output_folder.resolve()
    ours = _all_bundles(output_folder) if only is not None or not is_ours else ()
    superseded = tuple(
        other for other in ours if other.step > bundle.step or (not is_ours and other.step == bundle.step)
    )
    if is_ours and bundle.manifest.get("job") != facts.job and not choice.accept_config_change:
        raise UserError(
            f"{output_folder}: belongs to another job, {bundle.manifest.get('job')}. Give this one another "
            "`name`, or add --accept-config-change if it is the same under a new name."
        )
    notices += changes_since(bundle, facts, accepts=choice.accept_config_change)
    before = bundle.manifest.get("config", facts.config)
    keeps_optimizer = before["train"]["optimizer"] == facts.config["train"]["optimizer"]
    _require_parts(bundle, before, facts.config, keeps_optimizer=keeps_optimizer)
    changed = tuple(differences_since(bundle, facts))
    return ResumePlan(bundle, tuple(notices), superseded, keeps_optimizer, differences=changed)


def differences_in(error: UserError) -> tuple[Difference, ...]:
    """The settings that an error of `plan_resume` is about; none if it is about something else."""
    return error.differences if isinstance(error, SettingsChanged) else ()


def describe_resume(plan: ResumePlan) -> list[str]:
    """What a start will do, for the plan that is printed before it."""
    lines = list(plan.notices)
    if plan.bundle is not None:
        lines.append(f"resumes from step {plan.step} ({plan.bundle.folder})")
    if plan.superseded:
        steps = ", ".join(str(bundle.step) for bundle in plan.superseded)
        lines.append(
            f"checkpoints of steps that will be written again ({steps}) are first moved to "
            f"{plan.superseded[0].folder.parent.parent / SET_ASIDE}: nothing is deleted"
        )
    if plan.unowned:
        lines.append(f"no checkpoint of this job owns {some_names([path.name for path in plan.unowned])}: {_MAKE_WAY}")
    return lines


def make_way(plan: ResumePlan, output_folder: Path) -> str | None:
    """Move what no bundle owns out of the way. Returns what to tell the user; None if there is nothing."""
    if not plan.unowned:
        return None
    place = set_aside(output_folder, (), others=plan.unowned)
    names = some_names([path.relative_to(output_folder).as_posix() for path in plan.unowned])
    return f"no checkpoint of this job owns {names}: moved to {place}, nothing is deleted. {_GO_ON}"


def _place(source: Path, step: int | None) -> tuple[Path, int | None]:
    """The job's folder that a path of the user's is, or is the bundle of, and the step it names."""
    with contextlib.suppress(OSError):  # a name that is too long
        if (source / STATE_FOLDER).is_dir():
            return source, step
        if source.is_dir() and source.name.isdecimal() and source.parent.name == STATE_FOLDER and step is None:
            return source.parent.parent, int(source.name)
    raise UserError(
        f"--resume {source}: needs a job's output folder, or one of the numbered folders in its `{STATE_FOLDER}`."
    )


def _all_bundles(output_folder: Path) -> tuple[Bundle | BrokenBundle, ...]:
    """Bundles by step, the damaged ones too: someone may still want to mend them."""
    bundles, broken = find_bundles(output_folder, is_thorough=False)
    damaged = [fault for fault in broken if not fault.is_unfinished]
    return tuple(sorted([*bundles, *damaged], key=lambda bundle: bundle.step))


def _bundle_of_step(root: Path, step: int, *, is_thorough: bool) -> Bundle:
    folders = {int(folder.name): folder for folder in step_folders(root)}
    if step not in folders:
        raise UserError(f"{root}: has no checkpoint of step {step} to go on from. {_offer(root)}")
    try:
        bundle = read_bundle(folders[step])
        if is_thorough:
            bundle.check()
    except BrokenBundle as broken:
        raise UserError(f"{folders[step]}: cannot be resumed, {broken}. Choose another step.") from broken
    if not bundle.has_state:
        raise UserError(
            f"{root}: of step {step} only the weights were kept, not the state that a run goes on from "
            f"(save.max_states_to_keep). {_offer(root)}"
        )
    return bundle


def _offer(root: Path) -> str:
    """The steps that can be gone on from, as far as their manifests say."""
    bundles, broken = find_bundles(root, is_thorough=False)
    steps = [bundle.step for bundle in bundles if bundle.has_state]
    weights_only = [bundle.step for bundle in bundles if not bundle.has_state]
    kinds = {
        "Its checkpoints": steps,
        "With weights only": weights_only,
        "Damaged": [fault.step for fault in broken if not fault.is_unfinished],
    }
    named = [f"{what}: {', '.join(map(str, found))}." for what, found in kinds.items() if found]
    return " ".join(named) if steps else " ".join(["Its checkpoints: none.", *named])


def _refuse_to_lose(root: Path, choice: ResumeChoice, passed_over: Sequence[BrokenBundle]) -> None:
    if isinstance(choice.source, Path):
        raise UserError(f"--resume {root}: has no checkpoint to go on from.")
    lines = [f"  {broken.folder}: {broken}" for broken in passed_over if not broken.is_unfinished]
    stateless = [bundle for bundle in find_bundles(root, is_thorough=False)[0] if not bundle.has_state]
    lines += [f"  {bundle.folder}: only the weights were kept (save.max_states_to_keep)" for bundle in stateless]
    if lines:
        raise UserError(
            "\n".join([f"{root}: has checkpoints, but none that can be resumed:", *lines])
            + "\nNothing was changed. `--resume none` begins at step 0 and moves what is there aside; "
            "`--resume PATH` goes on from another folder, such as a backup."
        )


def _require_parts(bundle: Bundle, before: Mapping[str, Any], now: Mapping[str, Any], *, keeps_optimizer: bool) -> None:
    """What is missing would begin anew without a word. A manifest lists all that was written: none of ours lacks it."""
    needed = ["weights"]
    if bundle.step and keeps_optimizer:  # before its first step an optimizer has no state
        needed.append("optimizer")
    if _has_ema(before) and _has_ema(now):
        needed.append("ema")
    missing = [bundle.part_file(part).name for part in needed if bundle.part_file(part) not in bundle.files]
    if missing:
        raise UserError(
            f"{bundle.folder}: cannot be resumed, its manifest does not list {', '.join(missing)}. "
            "Put the whole folder back from a backup, or choose another step with --from-step."
        )


def _has_ema(config: Mapping[str, Any]) -> bool:
    average = config["train"].get("ema_config")
    return isinstance(average, Mapping) and bool(average.get("use_ema"))
