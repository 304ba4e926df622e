"""Lists and downloads the files of a hub repository, after checking the free disk space."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from toolkit.errors import UserError
from toolkit.output.disk import free_bytes
from toolkit.units import as_size


def check_access(repo: str, *, setting: str) -> None:
    """Ask the hub whether a repository's files may be downloaded: one request, and a second if it is gated.

    Raises:
        UserError: the repository does not exist, is gated and this account has no access, or the hub is unreachable.
    """
    with _explained(repo, setting):
        _ask_for_access(repo)


def repository_files(repo: str, *, setting: str) -> dict[str, int]:
    """Sizes in bytes of a repository's files, by name; only those in the local cache if the hub is unreachable.

    Args:
        repo: the repository, `owner/name`.
        setting: key of the job file that names the repository, for messages.

    Raises:
        UserError: the repository does not exist, is gated, or is unreachable and not in the cache.
    """
    with _explained(repo, setting):
        try:
            siblings = _describe(repo).siblings or ()
        except (HTTPError, OSError):
            cached = cached_folder(repo)
            if cached is None:
                raise
            files = (path for path in cached.rglob("*") if path.is_file())
            return {path.relative_to(cached).as_posix(): path.stat().st_size for path in files}
        return {file.rfilename: file.size or 0 for file in siblings}


def cached_folder(repo: str) -> Path | None:
    """Folder of the local cache with a repository's files; None if none of them is cached."""
    try:
        folder = Path(snapshot_download(repo, local_files_only=True, allow_patterns=["no such file"]))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if any(path.is_file() for path in folder.rglob("*")) else None


@cache
def _describe(repo: str) -> ModelInfo:
    return HfApi().model_info(repo, files_metadata=True)


@cache
def _ask_for_access(repo: str) -> None:
    # The list of files is public even if the files are not.
    if _describe(repo).gated:
        HfApi().auth_check(repo)


def download(repo: str, files: Mapping[str, int], *, setting: str) -> Path:
    """Download the given files of a repository, unless they are cached already, and return their folder.

    Args:
        repo: the repository, `owner/name`.
        files: size in bytes of each file, by name.
        setting: key of the job file that names the repository, for messages.

    Raises:
        UserError: see `repository_files`; also if the drive of the cache is too full.
    """
    with _explained(repo, setting):
        cached = (try_to_load_from_cache(repo, name) for name in files)
        _check_disk(repo, sum(size for size, path in zip(files.values(), cached, strict=True) if path is None))
        return Path(snapshot_download(repo, allow_patterns=list(files)))


def _check_disk(repo: str, needed: int) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    free = free_bytes(cache)
    if needed > free:
        raise UserError(
            f"{repo}: the download needs {as_size(needed)}, but the drive of {cache} has only {as_size(free)} free. "
            "Free some space, or set HF_HOME to a folder on a larger drive."
        )


@contextmanager
def _explained(repo: str, setting: str) -> Iterator[None]:
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{setting}: {repo} is neither a local path nor a hub id such as `owner/name`.") from error
    except GatedRepoError as error:
        raise UserError(
            f"{setting}: {repo} is gated, and this account has no access. Accept its licence at "
            f"https://huggingface.co/{repo}, then set HF_TOKEN to a token of that account (or run `hf auth login`)."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{setting}: {_unknown_repository(repo, error)}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        offline = constants.HF_HUB_OFFLINE
        what = "Unset HF_HUB_OFFLINE" if offline else "Check the network and https://status.huggingface.co"
        raise UserError(
            f"{setting}: {repo} cannot be downloaded{' while HF_HUB_OFFLINE is set' if offline else ''}, and the files "
            f"needed are not in the local hub cache. {what}, or give a local folder."
        ) from error
    except HfHubHTTPError as error:
        raise UserError(f"{setting}: {_http_problem(repo, error)}") from error
    except (HTTPError, OSError) as error:
        raise UserError(
            f"{setting}: {repo} cannot be downloaded ({_first_line(error)}). Check the network, or give a local folder."
        ) from error


def _unknown_repository(repo: str, error: RepositoryNotFoundError) -> str:
    # To unknown users the hub answers 401 instead of 404, so as not to reveal what exists.
    if error.response is not None and error.response.status_code == 401 and _has_token():
        return (
            f"the hub rejects the token in HF_TOKEN ({repo}). Create a new one at "
            "https://huggingface.co/settings/tokens."
        )
    token = "the token in HF_TOKEN may not read it" if _has_token() else "it is private and HF_TOKEN is not set"
    return f"the hub has no repository {repo}, or {token}. Check the spelling; a local path must exist."


def _http_problem(repo: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403):
        return (
            f"the hub denies access to {repo} ({status}): HF_TOKEN is not set, has expired, or may not read it. "
            "Create a token with read access at https://huggingface.co/settings/tokens."
        )
    if status == 429:
        return f"the hub is limiting requests ({repo}): too many requests. Wait a few minutes and start again."
    return f"{repo} cannot be downloaded ({_first_line(error)}). Try again later, or give a local folder."


def _has_token() -> bool:
    return bool(os.environ.get("HF_TOKEN")) or Path(constants.HF_TOKEN_PATH).exists()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
