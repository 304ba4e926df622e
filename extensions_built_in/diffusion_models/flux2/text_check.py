"""What can be said of a local text encoder and its tokenizer before they are loaded."""

from __future__ import annotations

from extensions_built_in.diffusion_models.flux2 import sources
from extensions_built_in.diffusion_models.flux2.text_weights import check_text_encoder
from toolkit.cards import ModelCard
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.weights.layouts import NotHereError


def check_text_files(config: ModelConfig, card: ModelCard, kind: str, *, num_layers: int) -> None:
    """Read configuration and headers of a local text encoder; what is on the hub is checked when it comes.

    Args:
        config: the `model` section.
        card: of its arch.
        kind: of language model that the arch reads.
        num_layers: how many of its layers are read.

    Raises:
        UserError: the files are absent, damaged or of another kind of model.
    """
    for component in ("text_encoder", "tokenizer"):
        try:
            files = sources.find_local(config, card, component)
        except NotHereError:
            if config.place_of(component) is not None:
                raise
            files = None  # the first stage says so before anything large is read
        if files is None:
            continue
        if files.folder is None:
            what = component.replace("_", " ")
            raise UserError(f"{files.place}: is a single file. A {what} is read from a folder with its config.json.")
        if component == "text_encoder":
            check_text_encoder(files.folder, files.weights, kind, num_layers=num_layers)
