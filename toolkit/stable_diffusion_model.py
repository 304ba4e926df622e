"""The base class of models that take an assistant LoRA, under the name that scripts for ai-toolkit know."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from toolkit.errors import Mistakes, UserError
from toolkit.lora.parse import parse
from toolkit.lora.settings import read_lora_tensors
from toolkit.lora.update import Update, must_be_finite
from toolkit.models.published_model import PublishedModel
from toolkit.networks.frozen import FrozenLora, by_layer
from toolkit.weights.hub import cached_folder
from toolkit.weights.layouts import NotHereError, find_component
from toolkit.weights.tensor_index import index_tensors

ASSISTANT = "model.assistant_lora_path"
# Names that diffusers and peft give to the file in a LoRA repository.
_ASSISTANT_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


class StableDiffusion(PublishedModel, is_abstract=True):
    """A PublishedModel that can be trained with an assistant LoRA.

    The assistant LoRA is active in training and off in samples. For a distilled model it undoes the distillation, so
    that the trained LoRA does not learn to, and works with the distilled model.
    """

    assistant_lora: FrozenLora | None = None

    def check_files(self) -> None:
        """See BaseModel.check_files."""
        path, mistakes = self.model_config.assistant_lora_path, Mistakes()
        if path is not None and Path(path).expanduser().exists():
            with mistakes.gathered():
                self._read_assistant(path)
        with mistakes.gathered():
            super().check_files()
        if mistakes:
            raise mistakes.error(self.model_config.name_or_path)

    def count_assistant_weights(self) -> int | None:
        """See BaseModel.count_assistant_weights. Reads the header of the file, which may be in the hub's cache."""
        path = self.model_config.assistant_lora_path
        if path is None:
            return 0
        source = path if Path(path).expanduser().exists() else cached_folder(path)
        if source is None:
            return None
        with suppress(NotHereError):  # only other files of that repository are in the cache
            entries = index_tensors([_find_assistant(str(source))]).entries.values()
            return sum(math.prod(entry.shape) for entry in entries)
        return None

    def load_assistant_lora(self) -> None:
        """Attach the LoRA at `model.assistant_lora_path`, if the job has one, to the loaded transformer.

        Raises:
            UserError: the file does not exist, or is for another model.
        """
        path = self.model_config.assistant_lora_path
        if path is None:
            return
        file, updates = self._read_assistant(path)
        lora = FrozenLora(by_layer(self, updates))
        lora.attach(self.transformer, source=f"{ASSISTANT}: {file}", dtype=self.dtype, device_of=self.device_of)
        self.assistant_lora = lora

    def without_assistant_lora(self) -> AbstractContextManager[None]:
        """Turn the assistant LoRA off inside a `with` block."""
        return nullcontext() if self.assistant_lora is None else self.assistant_lora.off()

    def _read_assistant(self, path: str) -> tuple[Path, dict[str, Update]]:
        file = _find_assistant(path)
        try:
            tensors, metadata = read_lora_tensors(file)
        except UserError as error:  # names the file
            raise UserError(f"{ASSISTANT}: {error}") from error
        try:
            updates = parse(tensors, metadata, self.locate_layer)
        except UserError as error:
            raise UserError(f"{ASSISTANT}: {file}: {error}") from error
        must_be_finite(updates, source=f"{ASSISTANT}: {file}")
        return file, updates


def _find_assistant(path: str) -> Path:
    (file,) = find_component(path, "assistant", single_files=_ASSISTANT_FILES, setting=ASSISTANT).weights
    return file
