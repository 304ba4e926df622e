"""The stages before training: captions and pictures are encoded once, and what encoded them is freed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.encode.storage import OVERFLOW_CACHE
from toolkit.errors import Interrupted
from toolkit.models.base_model import BaseModel
from toolkit.plan.stage_list import ENCODE_IMAGES, ENCODE_TEXT, EncodeStage
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Encoded

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


def encode_all(checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest) -> Encoded:
    """Every caption, sample prompt, image and reference, but for images that are cropped anew each time.

    Args:
        checked: what the check has found.
        model: nothing of it has been loaded.
        out: where the run reports to.
        stop: the user's wish to stop.

    Raises:
        Interrupted: asked to stop. What is in a cache folder stays there.
    """
    encodings = Encodings(out.stages.warn, overflow=out.folder / OVERFLOW_CACHE)
    needs = checked.needs
    with _stage(ENCODE_TEXT, checked, model, out, stop):
        prompts = PromptEncoder(
            model,
            encodings,
            fingerprint=model.fingerprint(ENCODE_TEXT.component),
            warn=out.stages.warn,
            redact=checked.start.job.redact,
        )
        _encode(prompts, list(needs.texts.items()), ENCODE_TEXT, out, stop)
    with _stage(ENCODE_IMAGES, checked, model, out, stop):
        images = ImageEncoder(
            model,
            encodings,
            fingerprint=model.fingerprint(ENCODE_IMAGES.component),
            backgrounds=[dataset.background_color for dataset in checked.config.datasets],
        )
        _encode(images, [(picture.source, picture.folder) for picture in needs.pictures], ENCODE_IMAGES, out, stop)
    return Encoded(prompts, images)


@contextmanager
def _stage(
    stage: EncodeStage, checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest
) -> Iterator[None]:
    """A stage before the first step: there is nothing to save when it is stopped."""
    with out.stages.stage(stage.name), stop.ends_at_once(stage.stopped):
        yield
        if not checked.needs.keeps(stage.component):
            model.free(stage.component)


class _Encoder(Protocol[T_contra]):
    def add(self, item: T_contra, /, *, folder: Path | None) -> bool: ...


def _encode(
    encoder: _Encoder[T], items: Sequence[tuple[T, Path | None]], stage: EncodeStage, out: Output, stop: StopRequest
) -> None:
    """Encode what is not cached, each into its folder."""
    num_new = 0
    for number, (item, folder) in enumerate(items, 1):
        if stop.requested:
            raise Interrupted(stage.stopped)
        num_new += encoder.add(item, folder=folder)
        out.stages.count(number, len(items), stage.counted)
    out.stages.tell(f"{num_new} {stage.counted} encoded" if num_new else f"all {stage.counted} were cached")
