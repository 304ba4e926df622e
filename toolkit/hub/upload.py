"""Uploads the weights of a finished run, with a model card and its last samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.errors import UserError
from toolkit.files import write_text
from toolkit.hub.model_card import CardSample, model_card
from toolkit.output.events import newest_events
from toolkit.output.sample_files import SAMPLES, sample_names

CARD_FILE = "README.md"


def upload(
    name: str,
    folder: Path,
    config: TrainingProcessConfig,
    card: ModelCard,
    *,
    redact: Callable[[str], str] = str,
) -> str:
    """Write the model card, and upload it with weights and samples to `save.hf_repo_id`. Returns its address.

    The account is that of `HF_TOKEN`, or of `hf auth login`. A repository that does not exist is made. Nothing else
    leaves the machine: logs, the job file and the report name its paths, and states are of no use to others.

    Args:
        name: of the job.
        folder: its output folder.
        config: its settings.
        card: of the base model.
        redact: removes secrets from the card.

    Raises:
        UserError: there are no weights, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi  # seconds, and most jobs upload nothing
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    names = _prepare(name, folder, config, card, redact)
    repo, api = config.save.hf_repo_id or "", HfApi()
    try:
        address = api.create_repo(repo, private=config.save.hf_private, exist_ok=True)
        patterns = [f"{entry}**" if entry.endswith("/") else entry for entry in names]
        message = f"{name}: {config.train.steps} steps"
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=patterns, commit_message=message)
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded") from error
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()
        raise UserError(f"{repo}: {type(error).__name__}: {first[0] if first else 'no answer'}") from error
    return str(address)


def _prepare(
    name: str, folder: Path, config: TrainingProcessConfig, card: ModelCard, redact: Callable[[str], str]
) -> tuple[str, ...]:
    """Write the card beside what it describes. Returns what is to be uploaded: files, and folders with `/`."""
    weights = _weights(name, folder)
    if not weights:
        raise UserError(f"there are no weights of {name} in {folder}")
    pictures = {} if config.train.disable_sampling else _last_samples(folder)
    samples = [CardSample(f"{SAMPLES}/{file}", prompt) for file, prompt in pictures.items()]
    final = next((one for one in weights if one in (f"{name}.safetensors", f"{name}/")), weights[-1])
    write_text(folder / CARD_FILE, redact(model_card(name, config, card, final, samples)))
    return (*weights, *(sample.path for sample in samples), CARD_FILE)


def _weights(name: str, folder: Path) -> tuple[str, ...]:
    """The weights of all steps: files and folders whose names begin with that of the job."""
    own = sorted(path for path in folder.iterdir() if path.name.startswith(name))
    files = [path.name for path in own if path.suffix == ".safetensors"]
    return (*files, *(f"{path.name}/" for path in own if path.is_dir()))


def _last_samples(folder: Path) -> dict[str, str]:
    """The names of the pictures of the last step that has some, with their prompts."""
    names = sample_names(folder / SAMPLES)
    last = max((step for step, _ in names), default=None)
    told: Mapping[str, Any] = {
        str(event.get("path", "")).rpartition("/")[2]: event.get("prompt")
        for event in newest_events(folder / "events.jsonl", passed_over="step")
        if event.get("kind") == "sample"
    }
    return {name: str(told.get(name) or "") for (step, _), name in sorted(names.items()) if step == last}
