"""`run.py --sample`: makes a drawing job of a run, or of a model and LoRA files, and a list of prompts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.adapters.choices import LORA_SUFFIX, file_suffixes
from toolkit.cards import find_cards
from toolkit.config import JobConfig, TrainingProcessConfig, load_job, load_job_text
from toolkit.config.compat.released import plain_name
from toolkit.config.drawing.generate import SHARED
from toolkit.config.drawing.twin import twin_of
from toolkit.draw.adapter_header import settings_of
from toolkit.errors import UserError
from toolkit.output.bundles import find_bundles

_FOLDER = "drawn"
_WEIGHTS = ".safetensors"
_OF_TRAINING = {"image_dropout_rate", "control_image_dropout", "invert_inpaint_mask_chance", "lora_config"}
_OF_CHECKPOINTS = ("checkpoints", "grid")  # sheets


def drawing_job(options: argparse.Namespace) -> JobConfig:
    """The job that draws what the options ask for.

    Raises:
        UserError: there is no such run or model, the run has no weights yet, or the prompts have mistakes.
    """
    if options.sample is None:
        name, process = process_of_model(options.model, options.arch)
    else:
        name, process = process_of_run(options.sample, has_loras=bool(options.loras))
        if options.model is not None:
            process["model"]["name_or_path"] = options.model
            process["model"].pop("model_paths", None)
    process["loras"] = [*process.get("loras", []), *map(_lora, options.loras)]
    if options.adapters:
        process["adapter"] = [_adapter(text, process.get("adapter", [])) for text in options.adapters]
    if options.prompts is not None:
        process["generate"].pop("prompts", None)
        process["generate"]["prompts"] = str(options.prompts)
    if not process["generate"].get("prompts"):
        raise UserError("--sample: the run has no sample prompts. Give a file with prompts: --prompts FILE")
    if options.sheet is not None:
        process["sheet"] = options.sheet
    if options.sheet not in _OF_CHECKPOINTS:
        process.pop("checkpoints", None)
    elif process.get("checkpoints"):
        process["loras"] = [_lora(text) for text in options.loras]
    if options.output is not None:
        process["output_folder"] = str(options.output)
    tree = {"job": "generate", "config": {"name": name, "process": [process]}}
    source = Path(process["output_folder"]) / f"{name}.json"
    return load_job_text(json.dumps(tree, indent=1, default=str), source, options.name, options.overrides)


def process_of_model(model: str, arch: str | None) -> tuple[str, dict[str, Any]]:
    """The name and the process of a job that draws with a model alone."""
    arch = arch or next((card.arch for card in find_cards().values() if _is_named(model, card)), None)
    if arch is None:
        raise UserError(f"--model {model}: give the kind of model too: --arch {', '.join(sorted(find_cards()))}")
    process = {
        "type": "to_folder",
        "output_folder": str(Path("output") / _FOLDER),
        "model": {"name_or_path": model, "arch": arch},
        "generate": {},
    }
    return _FOLDER, process


def _is_named(model: str, card: Any) -> bool:
    names = {*card.names, *(name for variant in card.variants for name in variant.names)}
    return model == card.source or plain_name(model) in names


def process_of_run(source: str, *, has_loras: bool) -> tuple[str, dict[str, Any]]:
    """The name and the process of a job that draws with what a run has trained last.

    Args:
        source: the run's output folder or job file.
        has_loras: whether the user names LoRA files, so that the run need not have any.
    """
    path = Path(source)
    job = load_job(path / "config.yaml" if path.is_dir() else source)
    index = next((i for i, one in enumerate(job.config.process) if isinstance(one, TrainingProcessConfig)), None)
    if index is None:
        raise UserError(f"--sample {source}: this job has no training process.")
    config, written = job.training(index), job.written["config"]["process"][index]
    folder = path if path.is_dir() else config.output_folder(job.name)
    model = {key: value for key, value in written["model"].items() if key != "assistant_lora_path"}
    if (twin := twin_of(config)) is not None:  # the settings of the samples are for these weights
        model = {key: value for key, value in model.items() if key != "model_paths"} | {
            "name_or_path": twin.name_or_path
        }
    process: dict[str, Any] = {
        "type": "to_folder",
        "output_folder": str(folder / _FOLDER),
        "device": config.device,
        "dtype": config.train.dtype,
        "model": model,
        "generate": _samples(config),
    }
    if config.trigger_word:
        process["trigger_word"] = config.trigger_word
    if config.adapter:
        return job.name, process | _adapted(folder, job.name, config)
    file = newest_weights(folder, job.name)
    if file is None and not has_loras:
        what = "has no trained weights yet. Train first, or give a file: --lora FILE"
        raise UserError(f"--sample {source}: {folder} {what}")
    if file is not None and config.network is not None and not config.train.merge_network_on_save:
        process["loras"] = [] if has_loras else [{"path": str(file)}]
        process["checkpoints"] = list(map(str, checkpoints(folder, job.name).values()))
    elif file is not None:
        process["model"] = {**model, "model_paths": {**(model.get("model_paths") or {}), "transformer": str(file)}}
    return job.name, process


def newest_weights(folder: Path, name: str) -> Path | None:
    """The file or folder with the weights that a run has saved last; None before the first."""
    found = checkpoints(folder, name)
    return found[max(found)] if found else None


def _adapted(folder: Path, name: str, config: TrainingProcessConfig) -> dict[str, Any]:
    """The adapters that a run has trained last, and the LoRA beside them, as keys of a process that draws.

    Raises:
        UserError: the run has not saved them yet, or has saved adapters as a part of the whole transformer.
    """
    if config.train.full_finetune:
        kind = config.adapter[0].type
        raise UserError(
            f"{folder}: the run trains all weights with the adapter `{kind}`, in one file that drawing jobs cannot "
            "read. Only the samples of the run itself draw with it."
        )
    has_network = config.network is not None
    kinds = [adapter.type for adapter in config.adapter]
    suffixes = file_suffixes(kinds, is_alone=not has_network and len(kinds) == 1)
    columns = [checkpoints(folder, name + suffix) for suffix in (*suffixes, *([LORA_SUFFIX] * has_network))]
    steps = set.intersection(*map(set, columns))
    if not steps:
        raise UserError(f"{folder}: the run has not saved its adapters yet. Train first.")
    files = [str(column[max(steps)]) for column in columns]
    settings = [one.model_dump(mode="json", exclude_unset=True, exclude=_OF_TRAINING) for one in config.adapter]
    compared = columns[0].values() if len(columns) == 1 else ()  # of several, no column would have those of one step
    return {
        "checkpoints": list(map(str, compared)),
        "adapter": [one | {"name_or_path": file} for one, file in zip(settings, files, strict=False)],
        "loras": [{"path": files[-1]}] if has_network else [],
    }


def checkpoints(folder: Path, name: str) -> dict[int, Path]:
    """Step -> the file, or diffusers' folder, with the weights of that step, of all that are there.

    Args:
        folder: the run's output folder.
        name: name of the file of its last step.
    """
    bundles, _ = find_bundles(folder, is_thorough=False)
    found: dict[int, Path] = {}
    last = 0
    for bundle in bundles:
        own = f"{name}_{bundle.step:09d}"
        files = [path for path in bundle.output_files if path.suffix == _WEIGHTS and path.is_file()]
        files = [path for path in files if path.relative_to(folder).parts[0] in (own, f"{own}{_WEIGHTS}")]
        if files:
            found[bundle.step] = files[0] if files[0].parent == folder else files[0].parent
        elif not bundle.output_files:
            last = bundle.step  # the weights of the last step are in files of their own
    final = next((path for path in (folder / f"{name}{_WEIGHTS}", folder / name) if path.exists()), None)
    return found if final is None else {**found, max(last, *found, 0): final}


def _samples(config: TrainingProcessConfig) -> dict[str, Any]:
    """The `generate` section with the settings of a run's samples."""
    sample = config.sample
    shared = {key: getattr(sample, key) for key in SHARED}
    prompts = [one.model_dump(mode="json", exclude_unset=True) for one in sample.samples or sample.prompts]
    return {**shared, "prompts": prompts}


def _adapter(text: str, of_run: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry of `adapter` for `FILE` or `FILE:ENCODER`, which takes the rest from the file or from the run's entry.

    Raises:
        UserError: the file cannot be read, or does not say what kind of adapter it is.
    """
    path, colon, encoder = text.rpartition(":")
    if not colon or Path(text).exists():
        path, encoder = text, ""
    told = settings_of(Path(path))
    own = next((dict(entry) for entry in of_run if entry["type"] == told["type"]), {})
    return own | told | ({"image_encoder_path": encoder} if encoder else {})


def _lora(text: str) -> dict[str, Any]:
    """The entry of `loras` for `FILE` or `FILE:WEIGHT`."""
    path, colon, weight = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            return {"path": path, "weight": float(weight)}
        except ValueError:
            pass
    return {"path": text}


def complaints(options: argparse.Namespace) -> Sequence[str]:
    """What is wrong with the options of a drawing command."""
    is_drawing = options.sample is not None or options.model is not None
    if not is_drawing:
        extra = [f"--{name}" for name in ("prompts", "arch", "output", "sheet") if getattr(options, name) is not None]
        extra += ["--lora"] * bool(options.loras) + ["--adapter"] * bool(options.adapters)
        return [f"{extra[0]} works only with --sample or --model"] if extra else []
    if options.jobs:
        return ["--sample and --model draw pictures: they take no job file"]
    if options.sample is None and options.prompts is None:
        return ["--model needs --prompts FILE"]
    return []
