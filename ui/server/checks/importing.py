"""Job texts made from other things: job files of ours or of ai-toolkit, a LoRA's metadata, a sample picture."""

from __future__ import annotations

import base64
import binascii
import io
import json
from pathlib import PurePath
from typing import Any

import yaml

from toolkit.cards import find_cards
from toolkit.config.model import normalise_arch
from toolkit.config.reading.parse import parse_file
from toolkit.errors import UserError
from toolkit.migrate.migrate import migrate
from toolkit.output.small_pictures import MOST_PIXELS
from toolkit.train.tasks.sample_info import read_info
from ui.server.jobs.text import TextFolder
from ui.server.refusal import Refusal, from_error
from ui.server.schemas import Imported, ImportRequest
from ui.server.words import clean

_TEXTS = (".yaml", ".yml", ".json", ".jsonc")
_LORAS = (".safetensors",)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_LARGEST_HEADER = 1 << 24


def import_job(request: ImportRequest, texts: TextFolder) -> Imported:
    """A job text made from something else.

    Raises:
        Refusal: it cannot be read, or says nothing of a job.
    """
    suffix = PurePath(request.filename).suffix.lower()
    if request.text is None and request.base64 is None:
        raise Refusal(422, "Send the file as `text` or `base64`.", "text")
    if suffix in _TEXTS:
        text = request.text if request.text is not None else _decoded(request).decode("utf-8-sig")
        return _from_text(text, suffix, request.to, texts)
    if suffix in _LORAS:
        return _from_metadata(_header(_decoded(request)), "LoRA metadata")
    if suffix in _PICTURES:
        return _from_metadata(_embedded(_decoded(request)), "sample image settings")
    raise Refusal(422, "Only job files, LoRA files and images can be imported.", "filename")


def _from_text(text: str, suffix: str, to: str | None, texts: TextFolder) -> Imported:
    changes: list[str] = []
    try:
        with texts.file(text, suffix) as path:
            tree = parse_file(path)
            if to is not None:
                if to not in find_cards():
                    raise Refusal(422, f'There is no model "{to}".', "to")
                output = path.with_name(f"{path.stem}-new{suffix}")
                try:
                    findings = migrate(path, output, to=find_cards()[to], cards=find_cards())
                    text = output.read_text(encoding="utf-8").replace(path.name, "the imported job")
                finally:
                    output.unlink(missing_ok=True)
                changes = [clean(str(finding)) for finding in findings]
                tree = parse_file_text(text, suffix, texts)
    except UserError as error:
        raise Refusal(422, from_error(error)) from error
    source = "a job for another model, converted" if changes else "a job file"
    if suffix.startswith(".json"):
        text = _dumped(tree)
        changes.append("converted to YAML")
    return Imported(yaml=clean(text), source=source, arch=_arch_in(tree), changes=changes)


def parse_file_text(text: str, suffix: str, texts: TextFolder) -> dict[str, Any]:
    """The tree of a text of the kind that a suffix names."""
    with texts.file(text, suffix) as path:
        return parse_file(path)


def _from_metadata(metadata: dict[str, Any], source: str) -> Imported:
    job = _job_in(metadata)
    if job is None:
        what = "This file contains no job settings: it was made by another program, or its metadata was removed."
        raise Refusal(422, what, "base64")
    return Imported(yaml=clean(_dumped(job)), source=source, arch=_arch_in(job), changes=[])


def _arch_in(tree: Any) -> str | None:
    """The model that a job names, by its arch or by a flag such as `is_flux: true`."""
    try:
        model = dict(tree["config"]["process"][0]["model"])
    except (LookupError, TypeError, ValueError):
        return None
    normalise_arch(model, find_cards())
    arch = model.get("arch")
    return clean(arch) if isinstance(arch, str) else None


def _job_in(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """A whole job where the metadata holds one, else one made of the settings that are there."""
    for key in ("job", "config", "training_config", "job_config"):
        value = _json(metadata.get(key))
        if isinstance(value, dict) and "config" in value:
            return value
        if isinstance(value, dict) and "process" in value:
            return {"job": "extension", "config": value}
    settings = _json(metadata.get("training_settings") or metadata.get("settings"))
    network, base = _json(metadata.get("network")), _json(metadata.get("base_model"))
    arch = str(metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture") or "")
    cards = find_cards()
    prompt = metadata.get("prompt")
    if not isinstance(settings, dict) and not isinstance(network, dict) and not isinstance(prompt, str):
        return None
    process: dict[str, Any] = {"type": "sd_trainer", "training_folder": "output"}
    if trigger := metadata.get("modelspec.trigger_phrase"):
        process["trigger_word"] = str(trigger)
    if arch in cards:
        name = str(base.get("name")) if isinstance(base, dict) else ""  # of weights in a folder it is no place
        process["model"] = {"arch": arch, "name_or_path": name if "/" in name else cards[arch].source}
    if isinstance(network, dict):
        process["network"] = {
            "type": str(network.get("type") or "lora"),
            "linear": network.get("rank") or 16,
            "linear_alpha": network.get("alpha") or network.get("rank") or 16,
        }
    process["datasets"] = [{"folder_path": ""}]
    if isinstance(settings, dict):
        dropped = ("seed", "num_examples")
        process["train"] = {key: value for key, value in settings.items() if key not in dropped}
        if isinstance(settings.get("seed"), int):
            process["training_seed"] = settings["seed"]
    if isinstance(prompt, str):
        keys = ("neg", "seed", "width", "height", "guidance_scale", "sample_steps", "network_multiplier")
        entry = {"prompt": prompt, **{key: _json(metadata[key]) for key in keys if key in metadata}}
        process["sample"] = {"samples": [entry]}
    name = str(metadata.get("modelspec.title") or metadata.get("ss_output_name") or "imported")
    return {"job": "extension", "config": {"name": name, "process": [process]}}


def _header(content: bytes) -> dict[str, Any]:
    """The metadata of a safetensors file, of which the first bytes are enough."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 0 < length <= _LARGEST_HEADER or len(content) < 8 + length:
        raise Refusal(422, "This is not a safetensors file, or its header is incomplete.", "base64")
    try:
        found = json.loads(content[8 : 8 + length])["__metadata__"]
    except (ValueError, LookupError, TypeError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def _embedded(content: bytes) -> dict[str, Any]:
    """What a picture says about itself: text chunks of a PNG, and what the trainer writes into its samples."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > MOST_PIXELS:  # what follows the pixels is found by decoding them
                raise Refusal(422, "The picture has too many pixels to be read.", "base64")
            found: dict[str, Any] = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
            found |= read_info(image)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, Image.DecompressionBombError) as error:
        raise Refusal(422, "This image can't be read.", "base64") from error
    return found


def _decoded(request: ImportRequest) -> bytes:
    if request.base64 is None:
        return (request.text or "").encode("utf-8", "replace")
    try:
        return base64.b64decode(request.base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(422, "`base64` is not valid base64.", "base64") from error


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _dumped(tree: Any) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)
