"""Checks a job's model files, and caches the result until a file, or the code that checks it, changes.

Names and shapes in the files are compared with the actual classes of the model libraries, which take seconds to import.
So a positive result is cached under a hash of everything it depends on: the `model` section, the files (the content of
small ones; header, size and time of large ones), the files in the hub's cache, our code and the libraries' versions.
Nothing ever needs to be invalidated. Mistakes are never cached.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.cards import ModelCard, read_cards
from toolkit.config import TrainingProcessConfig
from toolkit.config.drawing.twin import twin_of
from toolkit.errors import Mistakes
from toolkit.extension import REPOSITORY
from toolkit.files import sha256_json, write_json
from toolkit.quantize.cache_folder import trainer_cache
from toolkit.runtime.environment import versions

_WHOLE_BYTES = 1 << 20  # files up to this size are read completely
_MOST_HEADER_BYTES = 1 << 26
_PLANNED_WHOLE = (
    "notice: model.only_if_contains, ignore_if_contains: memory and disk are planned as if all weights were trained, "
    "because the names of the weights are only known once the model is on this machine"
)
_SAFETENSORS = (".safetensors", ".sft")


@dataclass(frozen=True)
class ModelFacts:
    """What its files say about a model.

    Attributes:
        num_weights: number of weights of the transformer in local files; None if the files are on the hub or damaged.
        num_assistant_weights: number of weights of the assistant LoRA; None if it is on the hub or damaged, 0 if there
            is none.
        lora_sides: sides of the layers that the job's network trains, see `PlanInputs.lora_sides`; None if unknown.
        fixed_weights: its weights that do not grow with the rank, or those that the filters of a full fine-tune
            choose, see `PlanInputs.fixed_weights`.
        lines: remarks on the network, for the user.
    """

    num_weights: int | None
    num_assistant_weights: int | None
    lora_sides: tuple[int, ...] | None = None
    fixed_weights: tuple[int, ...] = ()
    lines: tuple[str, ...] = ()


def check_model_files(
    config: TrainingProcessConfig, card: ModelCard, mistakes: Mistakes, *, source: str = ""
) -> ModelFacts:
    """Check the model's files and the layers to train, unless the cache says that both are fine.

    Imports the model's code only if there is no cached result.

    Args:
        config: the run's settings.
        card: card of the run's model.
        mistakes: gets what is wrong: local files that are missing, damaged or of another model, or a network that does
            not fit the model.
        source: path of the job file, for messages.

    Returns:
        What is known. After a mistake, layers that cannot be listed count as none, so that code that plans with the
        facts plans with too little, not with too much.
    """
    if config.model.quantize_cache is False:  # --no-cache
        return _inspect(config, card, mistakes, source)
    path = _place(config, card, has_network=config.network is not None or config.train.full_finetune)
    with suppress(OSError, ValueError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        lists: Any = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return ModelFacts(**found | lists)
    own = Mistakes()
    facts = _inspect(config, card, own, source)
    mistakes.errors += own.errors
    if not own:
        _remember(path, facts)
        weights_alone = ModelFacts(facts.num_weights, facts.num_assistant_weights)
        _remember(_place(config, card, has_network=False), weights_alone)  # for drawing with what is trained now
    return facts


def _remember(path: Path, facts: ModelFacts) -> None:
    with suppress(OSError):  # a cache that cannot be written only costs time
        write_json(path, asdict(facts))


def _place(config: TrainingProcessConfig, card: ModelCard, *, has_network: bool) -> Path:
    """Where a result is cached, with or without what concerns the weights to train."""
    return trainer_cache() / "checked" / f"{_key(config, card, has_network=has_network)}.json"


def _inspect(config: TrainingProcessConfig, card: ModelCard, mistakes: Mistakes, source: str) -> ModelFacts:
    import torch

    from toolkit.draw.twin_check import check_twin
    from toolkit.dtypes import torch_dtype
    from toolkit.models.options import ModelOptions
    from toolkit.models.weight_filter import count_chosen
    from toolkit.networks.network_check import check_network, trained_weights
    from toolkit.util.get_model import get_model_class

    model_class, dtype = get_model_class(config.model), torch_dtype(config.train.dtype)
    options = ModelOptions(card=config.card, without=config.without)
    model = model_class(config.model, device=torch.device("cpu"), dtype=dtype, options=options)
    twin = twin_of(config)
    weights, assistant, lines = None, None, []
    sides = None if config.network is None or card.size is None else (0,) * (1 + len(card.size.transformer.blocks))
    fixed: tuple[int, ...] = ()
    with mistakes.gathered():
        model.check_files()
        weights, assistant = model.count_local_weights(), model.count_assistant_weights()
    if twin is not None and not mistakes:
        with mistakes.gathered():
            check_twin(model, twin)
    with mistakes.gathered():
        sides, fixed = trained_weights(model, config)
        if config.train.full_finetune and card.size is not None:
            only, ignore = config.model.only_if_contains, config.model.ignore_if_contains
            fixed = (0,) * (1 + len(card.size.transformer.blocks)) if only or ignore else ()  # if a filter is wrong
            fixed = count_chosen(model, only, ignore)
        lines = check_network(model, config, source=source)
        if config.train.full_finetune and (config.model.only_if_contains or config.model.ignore_if_contains):
            lines += [] if fixed else [_PLANNED_WHOLE]
    return ModelFacts(weights, assistant, sides, fixed, tuple(lines))


def _key(config: TrainingProcessConfig, card: ModelCard, *, has_network: bool) -> str:
    section = config.model.model_dump(mode="json")
    network = config.network.model_dump(mode="json") if has_network and config.network else None
    twin = twin_of(config)
    own = None if twin is None else twin.name_or_path
    sources = [text for text in (*_texts(section), *_texts(network), *_texts(own), card.source) if text]
    code = [
        REPOSITORY / "toolkit" / folder
        for folder in ("draw", "lora", "models", "networks", "networks/kinds", "quantize", "weights")
    ]
    code += [REPOSITORY / "toolkit" / "stable_diffusion_model.py", read_cards().packages[config.model.arch].folder]
    return sha256_json(
        {
            "model": section,
            "without": sorted(config.without),
            "network": network,
            "twin": own,
            "file_format": config.save.lora_file_format if has_network else None,
            "dtype": config.train.dtype,
            "full_finetune": has_network and config.train.full_finetune,
            "versions": versions(),
            "code": [_identity(path) for folder in code for path in sorted([folder, *folder.glob("*.py")])],
            "files": [_identity(path) for text in dict.fromkeys(sources) for path in _files(Path(text).expanduser())],
            "hub": sorted(_hub_entries()),
        }
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)


def _files(source: Path) -> Iterator[Path]:
    """The path itself; if it is a file, its siblings; if it is a folder, what is in it and in its subfolders."""
    with suppress(OSError):  # not a valid path
        if not source.exists():
            return
        folder = source if source.is_dir() else source.parent
        yield source
        for path in sorted(folder.iterdir()):
            yield path
            if source.is_dir() and path.is_dir():
                yield from sorted(path.iterdir())


def _identity(path: Path) -> list[Any]:
    """Everything about a file that can affect a check."""
    try:
        status = path.stat()
        if not path.is_file():
            return [str(path)]
        return [str(path), status.st_size, _digest(path, status.st_size), _time(path, status)]
    except OSError as error:
        return [str(path), str(error)]


def _digest(path: Path, size: int) -> str:
    """Hash of a small file, or of the header of a large weights file; empty for other large files."""
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.sha256(file.read()).hexdigest()
        if path.suffix not in _SAFETENSORS:
            return ""
        head = file.read(8)
        length = min(int.from_bytes(head, "little"), _MOST_HEADER_BYTES)
        return hashlib.sha256(head + file.read(length)).hexdigest()


def _time(path: Path, status: os.stat_result) -> int:
    """Modification time of a file that is too large to be hashed completely; 0 for smaller files."""
    return status.st_mtime_ns if status.st_size > _WHOLE_BYTES else 0


def _hub_entries() -> Iterator[str]:
    """The files in the hub's cache. They are links to files that are named by a hash of their content."""
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    root = Path(folder or Path(home) / "hub").expanduser()
    for path in root.glob("models--*/snapshots/**/*"):
        with suppress(OSError):
            yield f"{path.relative_to(root)} {path.readlink() if path.is_symlink() else path.stat().st_size}"
    for path in root.glob("models--*/refs/*"):
        with suppress(OSError):
            yield f"{path.relative_to(root)} {path.read_text(encoding='utf-8', errors='replace')}"
