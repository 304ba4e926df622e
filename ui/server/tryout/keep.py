"""Keeps a LoRA: a whole copy under a name of one's choice, which replaces nothing."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from toolkit.config.process import must_be_folder_name
from toolkit.files import whole_file
from ui.server.refusal import Refusal
from ui.server.roots import Roots
from ui.server.schemas import KeepRequest, Kept
from ui.server.tryout.loras import SUFFIX, require_lora
from ui.server.words import clean

KEPT = "kept"
_one_at_a_time = threading.Lock()  # of two copies under one name the second is refused


def keep(request: KeepRequest, training_folder: Path, roots: Roots) -> Kept:
    """Copy a file to `kept/` in the folder for output.

    Raises:
        Refusal: the file is gone or not a LoRA, or the name cannot be used or is taken.
    """
    source = require_lora(request.path, roots, "path")
    name = request.name.strip().removesuffix(SUFFIX)
    try:
        must_be_folder_name(name)
    except ValueError as error:
        raise Refusal(422, str(error).replace("folder name", "file name"), "name") from error
    if not name or name.startswith("."):
        raise Refusal(422, "Choose a name that does not begin with a dot.", "name")
    target = roots.require(training_folder / KEPT / f"{name}{SUFFIX}", "name")
    with _one_at_a_time:
        taken = next((it for it in _names(target.parent) if it.casefold() == target.name.casefold()), None)
        if taken is not None:
            raise Refusal(409, f"{target.parent / taken} already exists. Choose another name.", "name")
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
    return Kept(path=clean(str(target)), num_bytes=target.stat().st_size)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
