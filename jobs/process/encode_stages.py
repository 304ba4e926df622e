"""The stages before training: captions and images are encoded once, and then the encoders are freed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.encode.storage import OVERFLOW_CACHE
from toolkit.errors import Interrupted
from toolkit.models.base_model import BaseModel
from toolkit.parallel.ranks import first_goes_ahead
from toolkit.plan.needs import Kind
from toolkit.plan.stage_list import ENCODE_IMAGES, ENCODE_STAGES, ENCODE_TEXT, EncodeStage
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Encoded


def encode_all(checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest) -> Encoded:
    """Encode every caption, sample prompt, image and reference, except images that are cropped randomly at each use.

    Args:
        checked: the result of the check.
        model: the run's model, with nothing loaded yet.
        out: the outputs of the run.
        stop: the user's request to stop.

    Raises:
        Interrupted: a stop was requested. What has been written to cache folders is kept.
    """
    encodings = Encodings(out.stages.warn, overflow=out.folder / OVERFLOW_CACHE)
    made: dict[Kind, Any] = {}
    for stage in ENCODE_STAGES:
        with _stage(stage, checked, model, out, stop):
            made[stage.kind] = _ENCODERS[stage.kind](checked, model, encodings, out)
            with first_goes_ahead(checked.start.ranks):  # and fills the caches for all
                _encode(made[stage.kind], checked.needs.encoded(stage.kind), stage, out, stop)
    return Encoded(made["texts"], made["pictures"])


def _prompt_encoder(checked: TrainingChecked, model: BaseModel, encodings: Encodings, out: Output) -> PromptEncoder:
    return PromptEncoder(
        model,
        encodings,
        fingerprint=model.fingerprint(ENCODE_TEXT.component),
        warn=out.stages.warn,
        redact=checked.start.job.redact,
    )


def _image_encoder(checked: TrainingChecked, model: BaseModel, encodings: Encodings, out: Output) -> ImageEncoder:
    return ImageEncoder(
        model,
        encodings,
        fingerprint=model.fingerprint(ENCODE_IMAGES.component),
        backgrounds=[dataset.background_color for dataset in checked.config.datasets],
    )


# What encodes each kind. Vision encoders get a line here, and a stage, when a part first needs their views.
_ENCODERS: Mapping[Kind, Callable[[TrainingChecked, BaseModel, Encodings, Output], _Encoder]] = {
    "texts": _prompt_encoder,
    "pictures": _image_encoder,
}


class _Encoder(Protocol):
    def add(self, item: Any, /, *, folder: Path | None) -> bool:
        """Encode an item if it is not there yet. Returns whether it had to be encoded."""
        ...


@contextmanager
def _stage(
    stage: EncodeStage, checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest
) -> Iterator[None]:
    """Run the block as a stage before the first step, where a stop has nothing to save."""
    with out.stages.stage(stage.name), stop.ends_at_once(stage.stopped):
        yield
        if not checked.needs.keeps(stage.component):
            model.free(stage.component)


def _encode(
    encoder: _Encoder, items: Sequence[tuple[Any, Path | None]], stage: EncodeStage, out: Output, stop: StopRequest
) -> None:
    """Encode the items that are not cached, each into its folder."""
    num_new = 0
    for number, (item, folder) in enumerate(items, 1):
        if stop.requested:
            raise Interrupted(stage.stopped)
        num_new += encoder.add(item, folder=folder)
        out.stages.count(number, len(items), stage.counted)
    out.stages.info(f"{num_new} {stage.counted} encoded" if num_new else f"all {stage.counted} were cached")
