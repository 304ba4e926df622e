"""What a drawing job draws with: the loaded model, its adapters, and LoRAs that come and go."""

from __future__ import annotations

from extensions_built_in.generator.drawing_check import DrawChecked
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.adapters import attach_adapters
from toolkit.draw.artist import Artist
from toolkit.draw.loras import Loras
from toolkit.models.base_model import BaseModel
from toolkit.train.feed.encoded import Encoded
from toolkit.train.tasks.sample_needs import reference_rules, sample_views


def make_artist(
    checked: DrawChecked, drawing: GenerateProcessConfig, model: BaseModel, encoded: Encoded
) -> tuple[Artist, Loras]:
    """Who draws the pictures of a job, and the LoRAs to draw with.

    Args:
        checked: the result of the check.
        drawing: the settings of the job.
        model: the model, with its transformer and VAE loaded; gets the adapters.
        encoded: what the earlier stages have encoded.

    Raises:
        UserError: the file of an adapter is damaged, or of another adapter, model or encoder.
    """
    config = checked.config
    loras = Loras(model, attach_adapters(model, drawing.adapter))
    artist = Artist(
        model,
        loras,
        encoded.prompts,
        reference_rules(config, checked.card),
        background=config.reference_background,
        extras=lambda item: encoded.of_sample(sample_views(config, item), item, model),
    )
    return artist, loras
