"""Locates a model's components: at a source of their own, beside the transformer, or in the card's repository."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from diffusers import FlowMatchEulerDiscreteScheduler

from toolkit.cards import ModelCard
from toolkit.config import ModelConfig
from toolkit.config.model import ModelPaths
from toolkit.errors import UserError
from toolkit.weights.layouts import TENSORS, ComponentFiles, NotHereError, find_component, reach_component
from toolkit.weights.tensor_index import index_tensors

_OWN_KEYS = {
    "transformer": "model.model_paths.transformer",
    "vae": "model.vae_path",
    "text_encoder": "model.te_name_or_path",
    "tokenizer": "model.model_paths.tokenizer",
}

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Look(Protocol[T_co]):
    """The signature shared by `find_component`, `reach_component` and `_find_local`."""

    def __call__(
        self, source: str, component: str, *, single_files: Sequence[str] = (), any_file: bool = True, setting: str
    ) -> T_co: ...


@dataclass(frozen=True)
class Sources:
    """Locates the components of one job's model.

    If the job gives a component its own source (`vae_path`, `te_name_or_path`, `model_paths`), that is used. Components
    missing from a single file or a folder of single files come from the hub repository on the model's card. If the job
    gives the text encoder its own source, the tokenizer is looked for there first, then where it would be otherwise.

    Components are `transformer`, `vae`, `text_encoder`, `tokenizer`, and the second of a kind, such as `tokenizer_2`.

    Attributes:
        config: the job's `model` section.
        card: the card of the model's arch.
        single_files: returns the file names under which a component is released as one file, best first; empty if it
            never is.
    """

    config: ModelConfig
    card: ModelCard
    single_files: Callable[[str], Sequence[str]]

    def find(self, component: str) -> ComponentFiles:
        """The files of a component, downloaded if they are on the hub.

        Raises:
            UserError: see `toolkit.weights.layouts.find_component`.
        """
        return self._find(component, find_component)

    def check_reachable(self, components: Iterable[str]) -> None:
        """Check every repository from which `find` would download, without downloading anything.

        Raises:
            UserError: a repository is missing, gated or unreachable, and the files needed are not in the local cache.
        """
        for component in components:
            self._find(component, reach_component)

    def find_local(self, component: str) -> ComponentFiles | None:
        """Like `find`, but offline; None if the component is on the hub."""
        if self._follows_the_encoder(component):
            return self._tokenizer_of_encoder(component, _find_local)
        own = self.config.source_of(component)
        path = Path(own or self.config.name_or_path).expanduser()
        if not path.exists():
            return None
        if own is None and component != "transformer" and path.suffix in TENSORS:
            names = self.single_files(component)
            sibling = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
            return None if sibling is None else self._look(component, str(sibling), find_component)
        try:
            return self._look(component, str(path), find_component)
        except NotHereError:
            if own is not None or component == "transformer" or (path / "model_index.json").exists():
                raise
            return None

    def count_local_weights(self, component: str) -> int | None:
        """Number of weights in a component's files, from their headers; None if the files are on the hub."""
        files = self.find_local(component)
        if files is None:
            return None
        return sum(math.prod(entry.shape) for entry in index_tensors(files.weights).entries.values())

    def load_scheduler(self, released: Mapping[str, Any]) -> FlowMatchEulerDiscreteScheduler:
        """The scheduler with the settings that came with the model; with `released` ones for single files."""
        if Path(self.config.name_or_path).suffix not in TENSORS:
            with suppress(NotHereError):
                files = find_component(self.config.name_or_path, "scheduler", setting="model.name_or_path")
                return FlowMatchEulerDiscreteScheduler.from_pretrained(files.folder, local_files_only=True)
        return FlowMatchEulerDiscreteScheduler(**released)

    def _find(self, component: str, look: _Look[T]) -> ComponentFiles | T:
        config = self.config
        if self._follows_the_encoder(component):
            return self._tokenizer_of_encoder(component, look)
        found = self.find_local(component)
        if found is not None:
            return found
        own = config.source_of(component)
        source = own or config.name_or_path
        if not Path(source).expanduser().exists():
            try:
                return self._look(component, source, look)
            except NotHereError:
                if own is not None or component == "transformer" or source == self.card.source:
                    raise
        return self._from_the_card(component, look)

    def _follows_the_encoder(self, component: str) -> bool:
        is_tokenizer = _first(component) == "tokenizer"
        return (
            is_tokenizer and self.config.model_paths.tokenizer is None and bool(self.config.source_of("text_encoder"))
        )

    def _tokenizer_of_encoder(self, component: str, look: _Look[T]) -> ComponentFiles | T:
        source = str(self.config.source_of("text_encoder"))
        if Path(source).suffix not in TENSORS:
            try:
                return look(source, component, single_files=(), setting=_OWN_KEYS["text_encoder"])
            except NotHereError:
                pass  # Mistral Small 3.2 has its tokenizer only in Mistral's own format
        without = self.config.model_copy(update={"te_name_or_path": None, "model_paths": ModelPaths()})
        return Sources(without, self.card, self.single_files)._find(component, look)

    def _look(self, component: str, source: str, look: _Look[T]) -> T:
        first = _first(component)
        if self.config.source_of(component) is None:
            key = "model.name_or_path"
        else:
            key = f"model.model_paths.{first}" if getattr(self.config.model_paths, first) else _OWN_KEYS[first]
        # The only file in a folder of single files may be the transformer.
        any_file = component == "transformer" or self.config.source_of(component) is not None
        return look(source, component, single_files=self.single_files(component), any_file=any_file, setting=key)

    def _from_the_card(self, component: str, look: _Look[T]) -> T:
        key, names = _OWN_KEYS[_first(component)], self.single_files(component)
        try:
            return look(self.card.source, component, single_files=names, any_file=False, setting=key)
        except UserError as error:
            raise UserError(
                f"{self.config.name_or_path} contains no {component}, and {self.card.source}, which does, cannot be "
                f"used either. {error} Or set {key} to a folder that has it."
            ) from error


def _find_local(
    source: str, component: str, *, single_files: Sequence[str] = (), any_file: bool = True, setting: str
) -> ComponentFiles | None:
    if not Path(source).expanduser().exists():
        return None
    return find_component(source, component, single_files=single_files, any_file=any_file, setting=setting)


def _first(component: str) -> str:
    """Name of the first component of this kind; its settings apply to the second one, too."""
    return component.removesuffix("_2")
