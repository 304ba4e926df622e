"""Where a component's files are: a local folder, or a repository of the hub that is downloaded first."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from toolkit.errors import UserError

WEIGHT_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_SAMPLE_BYTES = 1 << 20


def component_folder(name_or_path: str, subfolder: str) -> Path:
    """Folder that holds one component of a model in diffusers layout.

    Args:
        name_or_path: a local folder, or a hub id such as `black-forest-labs/FLUX.2-klein-base-4B`.
        subfolder: `transformer`, `vae`, `text_encoder`, `tokenizer` or `scheduler`.

    Raises:
        UserError: the folder or repository is absent, gated, out of reach, or lacks the component.
    """
    local = Path(name_or_path).expanduser()
    root = local if local.exists() else _download(name_or_path, subfolder)
    folder = root / subfolder
    if not folder.is_dir():
        raise UserError(
            f"{root}: no folder `{subfolder}`. model.name_or_path must name a model in diffusers layout: a folder with "
            "`transformer`, `vae`, `text_encoder`, `tokenizer` and `scheduler` in it."
        )
    return folder


def folder_fingerprint(folder: Path) -> str:
    """Hex digest of a component's files: names, sizes, small files whole, and the ends of large ones.

    Reading 60 GB to name a cache entry would cost minutes. Headers, sizes and both ends of each weight file differ
    between any two models met in practice, fine-tunes of one another included.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors", ".txt")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            if size > 2 * _SAMPLE_BYTES:
                file.seek(size // 2)
                digest.update(file.read(_SAMPLE_BYTES))
            if size > _SAMPLE_BYTES:
                file.seek(max(_SAMPLE_BYTES, size - _SAMPLE_BYTES))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _download(repo: str, subfolder: str) -> Path:
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")):
        raise UserError(f"{repo}: no such folder (model.name_or_path).")
    try:
        return Path(snapshot_download(repo, allow_patterns=[f"{subfolder}/{pattern}" for pattern in WEIGHT_PATTERNS]))
    except HFValidationError as error:
        raise UserError(f"{repo}: neither a folder nor a hub id such as `owner/name` (model.name_or_path).") from error
    except GatedRepoError as error:
        raise UserError(
            f"{repo} is gated: accept its licence at https://huggingface.co/{repo}, then set HF_TOKEN to a token of "
            "that account (or run `hf auth login`)."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{repo}: the hub knows no such repository, or the token in HF_TOKEN may not read it. Check the spelling "
            "of model.name_or_path; a local path must exist."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{repo}: cannot be downloaded, and `{subfolder}` is not in the local hub cache ({_first_line(error)}). "
            "Check the network and HF_TOKEN, unset HF_HUB_OFFLINE, or set model.name_or_path to a local folder."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
