"""Whether a job's model files are sound, remembered for as long as no file and no code that judges them changes.

Names and shapes in the files are compared with the real classes of the model libraries, which take seconds to import.
So a sound verdict is kept under a hash of all that shaped it: the `model` section, the files (content of small ones,
header, size and time of large ones), what the hub's cache holds, our code and the libraries' versions. There is nothing
to invalidate. Mistakes are never remembered.
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
from toolkit.errors import Mistakes
from toolkit.extension import REPOSITORY
from toolkit.files import sha256_json, write_json
from toolkit.quantize.cache_folder import trainer_cache
from toolkit.runtime.environment import versions

_WHOLE_BYTES = 1 << 20  # files up to this size are read whole
_MOST_HEADER_BYTES = 1 << 26
_SAFETENSORS = (".safetensors", ".sft")


@dataclass(frozen=True)
class ModelFacts:
    """What sound files say of a model.

    Attributes:
        num_weights: of the transformer, counted in local files; None if they are on the hub.
        num_assistant_weights: the same for the assistant LoRA; 0: the job has none.
        lora_sides: of the layers that the job's network trains, see `PlanInputs`; None if that cannot be told.
        lines: on that network, for the user.
    """

    num_weights: int | None
    num_assistant_weights: int | None
    lora_sides: tuple[int, ...] | None = None
    lines: tuple[str, ...] = ()


def check_model_files(config: TrainingProcessConfig, card: ModelCard, *, source: str = "") -> ModelFacts:
    """Look at the model's files and what is to be trained of it, or remember that both are sound.

    Imports the model's code only in the first case.

    Args:
        config: the run.
        card: of its model.
        source: the job file, for messages.

    Raises:
        UserError: local files are absent, damaged or of another model, or the network does not fit the model; all that
            is wrong at once.
    """
    if config.model.quantize_cache is False:  # --no-cache
        return _look(config, source)
    path = trainer_cache() / "checked" / f"{_key(config, card)}.json"
    with suppress(OSError, ValueError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        sides = found.pop("lora_sides")
        return ModelFacts(
            **found | {"lines": tuple(found["lines"])}, lora_sides=None if sides is None else tuple(sides)
        )
    facts = _look(config, source)
    with suppress(OSError):  # a cache that cannot be written costs time, no more
        write_json(path, asdict(facts))
    return facts


def _look(config: TrainingProcessConfig, source: str) -> ModelFacts:
    import torch

    from toolkit.dtypes import torch_dtype
    from toolkit.networks.network_check import check_network
    from toolkit.util.get_model import get_model_class

    model_class, dtype = get_model_class(config.model), torch_dtype(config.train.dtype)
    model = model_class(config.model, device=torch.device("cpu"), dtype=dtype)
    mistakes = Mistakes()
    with mistakes.gathered():
        model.check_files()
    with mistakes.gathered():
        sides, lines = check_network(model, config, source=source)
    if mistakes:
        raise mistakes.error(source)
    return ModelFacts(model.count_local_weights(), model.count_assistant_weights(), sides, tuple(lines))


def _key(config: TrainingProcessConfig, card: ModelCard) -> str:
    section = config.model.model_dump(mode="json")
    network = config.network.model_dump(mode="json") if config.network else None
    places = [text for text in (*_texts(section), *_texts(network), card.source) if text]
    code = [REPOSITORY / "toolkit" / folder for folder in ("lora", "models", "networks", "quantize", "weights")]
    code += [REPOSITORY / "toolkit" / "stable_diffusion_model.py", read_cards().packages[config.model.arch].folder]
    return sha256_json(
        {
            "model": section,
            "network": network,
            "file_format": config.save.lora_file_format,
            "dtype": config.train.dtype,
            "versions": versions(),
            "code": [_identity(path) for folder in code for path in sorted([folder, *folder.glob("*.py")])],
            "files": [_identity(path) for place in dict.fromkeys(places) for path in _files(Path(place).expanduser())],
            "hub": sorted(_hub_entries()),
        }
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)


def _files(place: Path) -> Iterator[Path]:
    """The place, what is beside a file or in a folder, and what is in the folders there."""
    with suppress(OSError):  # a text that is no path
        if not place.exists():
            return
        folder = place if place.is_dir() else place.parent
        yield place
        for path in sorted(folder.iterdir()):
            yield path
            if place.is_dir() and path.is_dir():
                yield from sorted(path.iterdir())


def _identity(path: Path) -> list[Any]:
    """What a file is, by what a check can read of it."""
    try:
        status = path.stat()
        if not path.is_file():
            return [str(path)]
        return [str(path), status.st_size, _digest(path, status.st_size), _time(path, status)]
    except OSError as error:
        return [str(path), str(error)]


def _digest(path: Path, size: int) -> str:
    """Hash of a small file, or of the header of a large one with weights."""
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.sha256(file.read()).hexdigest()
        if path.suffix not in _SAFETENSORS:
            return ""
        head = file.read(8)
        length = min(int.from_bytes(head, "little"), _MOST_HEADER_BYTES)
        return hashlib.sha256(head + file.read(length)).hexdigest()


def _time(path: Path, status: os.stat_result) -> int:
    """When a file was changed that is too large to be read; weights may be hashed in part as well."""
    return status.st_mtime_ns if status.st_size > _WHOLE_BYTES else 0


def _hub_entries() -> Iterator[str]:
    """The files in the hub's cache. They are links to names that are hashes of their content."""
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    root = Path(folder or Path(home) / "hub").expanduser()
    for path in root.glob("models--*/snapshots/**/*"):
        with suppress(OSError):
            yield f"{path.relative_to(root)} {path.readlink() if path.is_symlink() else path.stat().st_size}"
    for path in root.glob("models--*/refs/*"):
        with suppress(OSError):
            yield f"{path.relative_to(root)} {path.read_text(encoding='utf-8', errors='replace')}"
