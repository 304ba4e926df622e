"""What the files of a vision-language model say, before any library is loaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from toolkit.errors import UserError
from toolkit.json_files import read_json

SETTING = "caption.model_name_or_path"
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
PARTS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # what is loaded of a repository


def local_folder(name: str) -> Path | None:
    """The folder of a model on this machine; None if it is on the hub, and not cached."""
    if (folder := Path(name)).exists():
        return folder
    from toolkit.weights.hub import cached_folder  # takes half a second

    return cached_folder(name)


def check_folder(folder: Path) -> None:
    """Check that a folder holds a vision-language model that transformers can load without code of the model's own.

    Raises:
        UserError: it does not.
    """
    if not folder.is_dir():
        raise UserError(f"{SETTING}: {folder} is a file. Name the folder that the model is in.")
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{SETTING}: {folder} has no config.json: it is not a transformers model.")
    config = read_json(path)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise UserError(f"{SETTING}: {path} has no model_type: it is not a transformers model.")
    if not _is_known(kind):
        if "auto_map" in config:
            raise UserError(
                f'{SETTING}: "{kind}" in {folder} needs Python code that comes with the model (trust_remote_code). It '
                "could do anything on this machine, so it is never run. Choose a model that transformers supports, "
                "such as Qwen3-VL, SmolVLM, LLaVA, or BLIP; for Florence-2 use the version by florence-community."
            )
        raise UserError(
            f'{SETTING}: transformers does not support "{kind}", the model in {folder}. Choose another one.'
        )
    for what, names in (("an image processor", _PROCESSORS), ("a tokenizer", _TOKENIZERS)):
        if not any((folder / name).is_file() for name in names):
            raise UserError(
                f"{SETTING}: {folder} has no files of {what} ({', '.join(names)}). Download the whole repository, not "
                "only its weights; without these files, a model cannot read pictures."
            )
    if not any(folder.glob("*.safetensors")):
        other = " Its .bin files can contain code and are not read." if any(folder.glob("*.bin")) else ""
        raise UserError(f"{SETTING}: {folder} has no weights (*.safetensors).{other}")


def _is_known(kind: str) -> bool:
    """Whether transformers has code for it, by its folders: to ask the library itself takes two seconds and torch."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "models" / kind.replace("-", "_").replace(".", "_")).is_dir()
