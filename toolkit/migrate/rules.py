"""The rules that turn a job for one model into a job for another, based on the cards of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.cards import ModelCard
from toolkit.config.model import ARCH_FLAGS
from toolkit.migrate.findings import Advice, Change, Finding, Obstacle
from toolkit.optimizers.choices import LARGEST_ADAM_LR, OPTIMIZERS
from toolkit.quantize.qtypes import QTYPES
from toolkit.units import GB

Section = dict[str, Any]
PARTS = ("vae_path", "te_name_or_path", "model_paths", "assistant_lora_path", "inference_lora_path")
OLD_TIMESTEPS = ("linear_timesteps", "linear_timesteps2")
LAYER_FILTERS = ("only_if_contains", "ignore_if_contains")
FOUR_BITS = "qint4"


@dataclass(frozen=True)
class Move:
    """The models to migrate from and to.

    Attributes:
        source: card of the model that the job trains now.
        target: card of the model that the new job will train.
    """

    source: ModelCard
    target: ModelCard

    @property
    def keeps_layers(self) -> bool:
        """Whether both models have layers of the same names, which is so within a family."""
        return self.source.family == self.target.family


def change_process(process: Section, move: Move) -> list[Finding]:
    """Apply every rule to one entry of `process`, in place, and return what they report."""
    return [finding for rule in RULES for finding in rule(process, move)]


def name_output(config: Section, target: ModelCard) -> list[Finding]:
    """Rename the job, so that it neither resumes from the old job's checkpoints nor mixes with its files."""
    name = config.get("name")
    if not isinstance(name, str) or "[name]" in name:
        return []
    config["name"] = f"{name}_{target.arch}"
    return [Change("config.name", name, config["name"], "A separate folder: checkpoints of two models do not mix.")]


def _model(process: Section, move: Move) -> Iterator[Finding]:
    model = _section(process, "model")
    for flag in ARCH_FLAGS:
        if flag in model:
            yield Change(f"model.{flag}", model.pop(flag), None, "`arch` replaces it.")
    yield from _set(model, "model", "arch", move.target.arch, f"{move.target.label} instead of {move.source.label}.")
    licence = f" Licence: {move.target.license}{', to be accepted on its hub page' if move.target.is_gated else ''}."
    yield from _set(model, "model", "name_or_path", move.target.source, f"The released weights.{licence}")


def _parts_of_the_old_model(process: Section, move: Move) -> Iterator[Finding]:
    model = _section(process, "model")
    for key in PARTS:
        if model.get(key):
            yield Change(f"model.{key}", model.pop(key), None, f"It belongs to {move.source.label}.")
        model.pop(key, None)


def _old_loras(process: Section, move: Move) -> Iterator[Finding]:
    network = _section(process, "network")
    if network.get("pretrained_lora_path") and not move.keeps_layers:
        yield Obstacle(
            "network.pretrained_lora_path",
            f"a LoRA for {move.source.label} does not fit {move.target.label}, which has other layers. Remove the key "
            "and train from scratch on the same images",
        )
    kwargs = _section(network, "network_kwargs")
    for key in LAYER_FILTERS:
        if kwargs.get(key) and not move.keeps_layers:
            yield Obstacle(
                f"network.network_kwargs.{key}",
                f"names layers of {move.source.label}. Remove it, or name layers of {move.target.label}; a LoRA file "
                "of that model lists them: python -m toolkit.lora info FILE",
            )


def _number_format(process: Section, move: Move) -> Iterator[Finding]:
    model = _section(process, "model")
    if not (move.source.num_parameters and move.target.num_parameters):
        return
    qtype = QTYPES.get(str(model.get("qtype", "qfloat8"))) if model.get("quantize") else None
    before = _weight_gb(move.source, qtype.bits_per_weight if qtype else 16)
    after = _weight_gb(move.target, qtype.bits_per_weight if qtype else 16)
    if after <= before * 1.1:
        return
    if qtype is not None and qtype.bits_per_weight > QTYPES[FOUR_BITS].bits_per_weight:
        smallest = _weight_gb(move.target, QTYPES[FOUR_BITS].bits_per_weight)
        why = f"The weights then take {smallest:.0f} GB instead of {after:.0f} GB; those of {move.source.label}"
        yield from _set(model, "model", "qtype", FOUR_BITS, f"{why} took {before:.0f} GB.")
    else:
        yield Advice(
            f"Memory: the weights take {after:.0f} GB, those of {move.source.label} took {before:.0f} GB. `--check` "
            "says whether that fits your GPU; `model.quantize: true` with a smaller `model.qtype` makes them smaller."
        )


def _timesteps(process: Section, move: Move) -> Iterator[Finding]:
    train = _section(process, "train")
    for key in OLD_TIMESTEPS:
        if train.get(key):
            yield Change(f"train.{key}", train.pop(key), None, "`timestep_type` chooses the timesteps.")
        train.pop(key, None)
    if "bypass_guidance_embedding" in train:
        was = train.pop("bypass_guidance_embedding")
        yield Change("train.bypass_guidance_embedding", was, None, "The trainer sets the guidance the model needs.")
    wanted = move.target.defaults.get("train", {}).get("timestep_type")
    if wanted and train.get("timestep_type", wanted) != wanted:
        yield from _set(train, "train", "timestep_type", wanted, f"Usually works best for {move.target.label}.")


def _samples(process: Section, move: Move) -> Iterator[Finding]:
    defaults = move.target.defaults.get("sample", {})
    for name in ("sample", "first_sample"):
        section = _section(process, name)
        items = _list(section, "samples")
        entries = [(name, section), *((f"{name}.samples[{i}]", item) for i, item in enumerate(items))]
        for where, entry in entries:
            for key, why in (("guidance_scale", "guidance"), ("sample_steps", "number of steps")):
                if isinstance(entry, dict) and entry.get(key) is not None and key in defaults:
                    yield from _set(entry, where, key, defaults[key], f"The {why} {move.target.label} is made for.")
    if "true_cfg" not in move.target.capabilities and _section(process, "sample").get("neg"):
        was = process["sample"].pop("neg")
        yield Change("sample.neg", was, None, f"Negative prompts have no effect on {move.target.label}.")


def _references(process: Section, move: Move) -> Iterator[Finding]:
    if "references" in move.target.capabilities:
        return
    for index, dataset in enumerate(_list(process, "datasets")):
        if isinstance(dataset, dict) and any(key.startswith("control_path") and dataset[key] for key in dataset):
            what = f"{move.target.label} takes no reference images. Remove the key, or choose a model that does"
            yield Obstacle(f"datasets[{index}].control_path", what)


def _what_stays(process: Section, move: Move) -> Iterator[Finding]:
    train, network = _section(process, "train"), _section(process, "network")
    rank, lr = network.get("linear", "-"), train.get("lr", "default")
    optimizer = OPTIMIZERS.get(str(train.get("optimizer", "adamw")).lower())
    is_too_large = isinstance(lr, int | float) and lr >= LARGEST_ADAM_LR
    if is_too_large and (optimizer is None or optimizer.largest_lr is not None):
        yield Advice(f"Kept: steps, batch size, rank ({rank}). They are good starting points; watch the samples.")
        yield Advice(
            f"Not a good starting point: the learning rate of {lr}. It suits optimizers that find the step size "
            "themselves, such as Prodigy; with adamw, adamw8bit or adam set `train.lr: 1e-4`."
        )
    else:
        yield Advice(
            f"Kept: steps, batch size, learning rate ({lr}), rank ({rank}). They are good starting points; watch the "
            "samples, and halve the learning rate if they fall apart."
        )
    yield Advice(
        "Kept: images and captions. The text encoder reads whole sentences, so it helps to rewrite captions that are "
        "lists of tags. New caches are made in the image folders; the old ones are not touched."
    )


Rule = Callable[[Section, Move], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    _number_format,  # before the model's own keys are replaced
    _model,
    _parts_of_the_old_model,
    _old_loras,
    _timesteps,
    _samples,
    _references,
    _what_stays,
)


def _set(section: Section, where: str, key: str, value: Any, why: str) -> Iterator[Finding]:
    was = section.get(key)
    if was != value:
        section[key] = value
        yield Change(f"{where}.{key}", was, value, why)


def _section(parent: Section, key: str) -> Section:
    """The section at `key`; if there is none, a new empty dict that is not part of `parent`."""
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def _list(parent: Section, key: str) -> list[Any]:
    found = parent.get(key)
    return found if isinstance(found, list) else []


def _weight_gb(card: ModelCard, bits: float) -> float:
    return card.num_parameters * bits / 8 / GB
