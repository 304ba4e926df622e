"""Which samples a run draws, and what they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import SampleItem, TrainingProcessConfig
from toolkit.config.drawing.twin import twin_of
from toolkit.config.sample import with_views
from toolkit.data.examples import ViewImage
from toolkit.data.image_files import IMAGES, ImageError
from toolkit.data.needs import text_folder
from toolkit.data.references import ReferenceRules, measure_references
from toolkit.data.scan import reference_rules as reference_rules
from toolkit.data.view_images import view_of, view_problem
from toolkit.encode.vision import VisionEncoder, scoring_encoder, view_inputs
from toolkit.errors import Problem
from toolkit.plan.needs import Needs, Resident, View

_DECODER = Resident("vae", "the VAE stays loaded while training, to decode samples")


def sample_items(config: TrainingProcessConfig, *, first: bool = False) -> tuple[SampleItem, ...]:
    """The samples of one round; with `first`, of the round before the first step."""
    if config.train.disable_sampling:
        return ()
    sample = config.first_sample if first and config.first_sample else config.sample
    return drawn_items(sample.items(config.trigger_word), config)


def drawn_items(items: Iterable[SampleItem], config: TrainingProcessConfig) -> tuple[SampleItem, ...]:
    """Samples, or pictures of a drawing job, with the images that adapters see or are controlled by told apart."""
    return tuple(item.with_controls(config.num_control_images) for item in with_views(items, config.adapter))


def describe_twin(config: TrainingProcessConfig) -> list[str]:
    """A line on what samples are drawn on and how, if it is not what is trained."""
    twin, card = twin_of(config), config.card
    if twin is None or card is None:
        return []
    how = sorted({f"{item.sample_steps} steps with guidance {item.guidance_scale:g}" for item in all_items(config)})
    return [f"samples: drawn on {twin.name_or_path} with the network applied, in {', '.join(how)}"]


def all_items(config: TrainingProcessConfig) -> tuple[SampleItem, ...]:
    """The samples of the round before the first step and of all later rounds."""
    return (*sample_items(config, first=True), *sample_items(config))


def sample_needs(config: TrainingProcessConfig, card: ModelCard, output_folder: Path) -> Needs:
    """The prompts and sizes of all samples, what adapters see of them, and the VAE that decodes them.

    Prompts are kept with the captions of the first dataset, or each start would load the text encoder for them.
    """
    found = needs_of_items(all_items(config), config, card)
    texts = dict.fromkeys(found.texts, text_folder(config, 0, output_folder))
    return replace(found, texts=texts, scored_with=scoring_encoder(config))


def needs_of_items(items: Sequence[SampleItem], config: TrainingProcessConfig, card: ModelCard) -> Needs:
    """The same of some samples."""
    rules = reference_rules(config, card)
    return Needs(
        texts={text: None for item in items for text in item.prompts(card)},
        views=tuple(View(image, encoder, None) for item in items for _, encoder, image in sample_views(config, item)),
        resident=(_DECODER,) if items and "vae" not in config.without else (),
        sampled=tuple((_size(item), *_references(item, rules)) for item in items),
    )


def sample_views(config: TrainingProcessConfig, item: SampleItem) -> list[tuple[int, VisionEncoder, ViewImage]]:
    """What adapters see when a sample is drawn: the adapter's position in the job's list, its encoder, the image.

    Raises:
        ImageError: an image cannot be read; the check has reported it.
    """
    encoders = {one.index: one.encoder for one in view_inputs(config.adapter)}
    found = []
    for index, path in item.views:
        image = view_of((path, IMAGES.inspect(path)), config.view_background)
        assert image is not None
        found.append((index, encoders[index], image))
    return found


def view_problems(items: Iterable[SampleItem]) -> list[Problem]:
    """A problem for each image for adapters, of some samples, that cannot be used."""
    problems = []
    for path in dict.fromkeys(path for item in items for _, path in item.views):
        try:
            what = view_problem(IMAGES.inspect(path))
        except ImageError as error:
            what = f"cannot be read: {error}"
        if what:
            problems.append(Problem(str(path), what))
    return problems


def _size(item: SampleItem) -> tuple[int, int]:
    return item.width, item.height


def _references(item: SampleItem, rules: ReferenceRules) -> list[tuple[int, int]]:
    infos, _ = measure_references(item.references, rules.limits)
    return [reference.fit.bucket for reference in rules.fit(infos, _size(item), background=(0, 0, 0))]
