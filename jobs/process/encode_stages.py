"""The stages before training: captions and images are encoded once, and then the encoders are freed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.encode.controls import Controls
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder, text_fingerprint
from toolkit.encode.storage import OVERFLOW_CACHE
from toolkit.encode.views import ViewEncoder
from toolkit.errors import Interrupted
from toolkit.models.base_model import BaseModel
from toolkit.models.pixel_vae import PixelVae
from toolkit.plan.needs import Kind
from toolkit.plan.stage_list import EncodeStage, encode_stages
from toolkit.runtime.stop import StopRequest
from toolkit.train.feed.encoded import Encoded


def encode_all(checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest) -> Encoded:
    """Encode every caption, prompt, image, reference and view, except images that are cropped randomly at each use.

    Args:
        checked: the result of the check.
        model: the run's model, with nothing loaded yet.
        out: the outputs of the run.
        stop: the user's request to stop.

    Raises:
        Interrupted: a stop was requested. What has been written to cache folders is kept.
    """
    made = _encode_kinds(checked, model, out, stop)
    return Encoded(made["texts"], made["pictures"], made.get("views"), _controls(checked, made["pictures"]))


def encode_for_drawing(checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest) -> Encoded:
    """Encode every prompt, and every image that an adapter sees. See `encode_all`."""
    made = _encode_kinds(checked, model, out, stop)
    # Control pictures are encoded when they are drawn with: nothing of this is kept.
    encodings = Encodings(out.stages.warn, overflow=out.folder / OVERFLOW_CACHE)
    images = ImageEncoder(model, encodings, fingerprint="", backgrounds=())
    return Encoded(made["texts"], images, made.get("views"), _controls(checked, images))


def _encode_kinds(checked: TrainingChecked, model: BaseModel, out: Output, stop: StopRequest) -> dict[Kind, Any]:
    """What has encoded each kind of input that the run needs, and keeps the results. See `encode_all`."""
    ranks, overflow = checked.start.ranks, out.folder / OVERFLOW_CACHE
    encodings = Encodings(out.stages.warn, overflow=overflow, is_shared=ranks.local_world > 1)
    made: dict[Kind, Any] = {}
    for stage in encode_stages(checked.needs):
        with _stage(stage, checked, made, out, stop):
            made[stage.kind] = _ENCODERS[stage.kind](checked, model, encodings, out)
            try:
                _encode(made[stage.kind], _own(checked, stage.kind), stage, out, stop)
            finally:
                encodings.settle()
            ranks.barrier()
            items = checked.needs.encoded(stage.kind)
            for item, folder in items if ranks.local_world > 1 else ():  # which the other ranks have written
                made[stage.kind].add(item, folder=folder)
    return made


def _own(checked: TrainingChecked, kind: Kind) -> Sequence[tuple[Any, Path | None]]:
    """What this rank encodes; the ranks of a machine share all."""
    ranks = checked.start.ranks
    return checked.needs.encoded(kind)[ranks.local_rank :: ranks.local_world]


def _controls(checked: TrainingChecked, images: ImageEncoder) -> Controls | None:
    config = checked.config
    for index, adapter in enumerate(config.adapter):
        if adapter.choice.reads == "control":
            return Controls(index, adapter, images, background=config.reference_background)
    return None


def _prompt_encoder(checked: TrainingChecked, model: BaseModel, encodings: Encodings, out: Output) -> PromptEncoder:
    return PromptEncoder(
        model,
        encodings,
        fingerprint=text_fingerprint(model),
        warn=out.stages.warn,
        redact=checked.start.job.redact,
    )


def _image_encoder(checked: TrainingChecked, model: BaseModel, encodings: Encodings, out: Output) -> ImageEncoder:
    images = ImageEncoder(
        model,
        encodings,
        fingerprint=model.vae.fingerprint if isinstance(model.vae, PixelVae) else model.fingerprint("vae"),
        backgrounds=[dataset.background_color for dataset in checked.config.datasets],
    )
    images.expect(_own(checked, "pictures"))
    return images


def _view_encoder(checked: TrainingChecked, model: BaseModel, encodings: Encodings, out: Output) -> ViewEncoder:
    return ViewEncoder(encodings, model.device)


_ENCODERS: Mapping[Kind, Callable[[TrainingChecked, BaseModel, Encodings, Output], _Encoder]] = {
    "texts": _prompt_encoder,
    "pictures": _image_encoder,
    "views": _view_encoder,
}


class _Encoder(Protocol):
    def add(self, item: Any, /, *, folder: Path | None) -> bool:
        """Encode an item if it is not there yet. Returns whether it had to be encoded."""
        ...

    def free(self) -> None:
        """Unload the component that encodes."""
        ...


@contextmanager
def _stage(
    stage: EncodeStage, checked: TrainingChecked, made: Mapping[Kind, _Encoder], out: Output, stop: StopRequest
) -> Iterator[None]:
    """Run the block as a stage before the first step, where a stop has nothing to save."""
    with out.stages.stage(stage.name), stop.ends_at_once(stage.stopped):
        yield
        if not checked.needs.keeps(stage.component):
            made[stage.kind].free()


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
