"""The processor of a vision-language model, also where torchvision is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def load_processor(folder: Path) -> Any:
    """What turns a picture and a text into a model's inputs.

    Many processors have a part for videos, which needs torchvision even if no video is used. Without that
    library they do without the part.

    Raises:
        OSError, ValueError, ImportError: as the library raises them.
    """
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(config.model_type) or "", None)
    has_video = kind is not None and "video_processor" in kind.get_attributes()
    if kind is None or not has_video or importlib.util.find_spec("torchvision") is not None:
        return transformers.AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    parts = [_part(name, folder) for name in kind.get_attributes()]
    settings, options = kind.get_processor_dict(folder, local_files_only=True)
    return _without_video(kind).from_args_and_dict(parts, settings, **options)


def _without_video(kind: Any) -> Any:
    """A kind of processor whose video part may be None."""

    def check(self: Any, name: str, part: Any) -> Any:
        return None if name == "video_processor" else kind.check_argument_for_proper_class(self, name, part)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})


def _part(name: str, folder: Path) -> Any:
    import transformers

    if name == "video_processor":
        return None
    kind = transformers.AutoTokenizer if name == "tokenizer" else transformers.AutoImageProcessor
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
