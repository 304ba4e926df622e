"""Settings of this installation, and its secrets, which are written and never read out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from toolkit.cards import find_cards, read_cards
from toolkit.files import delete_file, write_json
from ui.server.auth import write_secret
from ui.server.checks.download import has_hub_token
from ui.server.notices.webhook import Webhook, wrong_with
from ui.server.refusal import Refusal
from ui.server.roots import Roots
from ui.server.schemas import OCCASIONS, Occasion, Settings, SettingsChange, WebhookKind

_FILE, _SECRET, _WEBHOOK = "settings.json", "hub_token", "webhook_url"
_TRAINING_FOLDER = "output"


class SettingsFile:
    """`settings.json` in the store."""

    def __init__(self, store: Path, roots: Roots) -> None:
        self.store = store
        self.roots = roots

    def read(self) -> Settings:
        """The settings; a damaged file counts as none."""
        found = self._found()
        folder, arch = found.get("training_folder"), found.get("default_arch")
        return Settings(
            training_folder=folder if isinstance(folder, str) else _TRAINING_FOLDER,
            default_arch=arch if arch in find_cards() else _first_model(),
            has_hub_token=(self.store / _SECRET).is_file() or has_hub_token(os.environ),
            has_webhook=(self.store / _WEBHOOK).is_file(),
            webhook_kind=_webhook_kind(found),
            webhook_on=_webhook_on(found),
        )

    def change(self, change: SettingsChange) -> Settings:
        """Write what was given.

        Raises:
            Refusal: a folder outside the roots, or a model that there is not.
        """
        found = self._found()
        if change.training_folder is not None:
            folder = Path(change.training_folder.strip() or _TRAINING_FOLDER)
            self.roots.require(folder, "training_folder")
            found["training_folder"] = str(folder)
        if change.default_arch is not None:
            if change.default_arch not in find_cards():
                raise Refusal(422, f'There is no model "{change.default_arch}".', "default_arch")
            found["default_arch"] = change.default_arch
        if change.hub_token is not None:
            token = change.hub_token.strip()
            if not token.isascii() or not token.isprintable() or " " in token:
                raise Refusal(422, "A Hugging Face token contains no spaces or special characters.", "hub_token")
            self._keep(_SECRET, token)
        if change.webhook_url is not None:
            url = change.webhook_url.strip()
            wrong = wrong_with(url) if url else None
            if wrong:
                raise Refusal(422, wrong, "webhook_url")
            self._keep(_WEBHOOK, url)
        if change.webhook_kind is not None:
            found["webhook_kind"] = change.webhook_kind
        if change.webhook_on is not None:
            found["webhook_on"] = list(dict.fromkeys(change.webhook_on))
        write_json(self.store / _FILE, found)
        return self.read()

    def environment(self) -> Mapping[str, str]:
        """What job processes get beside the variables of the server."""
        try:
            return {"HF_TOKEN": (self.store / _SECRET).read_text(encoding="ascii")}
        except (OSError, UnicodeError):
            return {}

    def webhook(self) -> Webhook | None:
        """Where messages are sent; None if nowhere."""
        try:
            url = (self.store / _WEBHOOK).read_text(encoding="ascii")
        except (OSError, UnicodeError):
            return None
        return None if wrong_with(url) else Webhook(url, _webhook_kind(self._found()))

    def _keep(self, name: str, secret: str) -> None:
        if secret:
            write_secret(self.store / name, secret)
        else:
            delete_file(self.store / name)

    def _found(self) -> dict[str, Any]:
        try:
            found = json.loads((self.store / _FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _webhook_kind(found: dict[str, Any]) -> WebhookKind:
    given = found.get("webhook_kind")
    return next((kind for kind in get_args(WebhookKind) if kind == given), "json")


def _webhook_on(found: dict[str, Any]) -> list[Occasion]:
    given = found.get("webhook_on")
    return [occasion for occasion in OCCASIONS if not isinstance(given, list) or occasion in given]


def _first_model() -> str:
    """The model that a new installation begins with: the largest of ours that needs nobody's permission."""
    known = read_cards()
    free = [card for arch, card in known.cards.items() if known.packages[arch].is_built_in and not card.is_gated]
    return max(free, key=lambda card: card.num_parameters).arch
