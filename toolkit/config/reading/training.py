"""Prepares a training process for validation: LoRA or full fine-tune, and the defaults of the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.adapters.choices import ADAPTERS
from toolkit.cards import ModelCard
from toolkit.config.compat.adapters import adapter_entries, read_adapters
from toolkit.config.compat.released import advice, variant_of, variant_of_samples, wrong_arch
from toolkit.config.process import Findings
from toolkit.config.reading.locations import Location
from toolkit.config.save import LORA_ONLY

Finding = tuple[Location, str]
MEAN_FLOW = "mean_flow"
STEPPED = "stepped"
SLIDER = "concept_slider"


def prepare_training(process: dict[str, Any], cards: Mapping[str, ModelCard]) -> Findings:
    """Check the settings that decide how others are read, and fill in the card's defaults, in place."""
    problems = read_adapters(process)
    problems += _take_lora_config(process)
    problems += _read_mean_flow(process)
    problems += _read_stepped(process)
    problems += _read_slider(process)
    problems += _check_what_is_trained(process)
    notices = [*_read_wavelet(process), *_notices(process)]
    model = process.get("model")
    if isinstance(model, dict):
        problems += wrong_arch(model, cards)
        notices += advice(model, cards)
    _infer_lora_format(process)
    add_card_defaults(process, cards)
    return Findings(problems, notices)


def add_card_defaults(process: dict[str, Any], cards: Mapping[str, ModelCard]) -> None:
    """Fill in the defaults of the model's card for keys the job does not give, in place."""
    model = process.get("model")
    card = cards.get(str(model.get("arch"))) if isinstance(model, dict) else None
    variant = variant_of(model, card) if card and isinstance(model, dict) else None
    _fill_in_for_twin(process, card)
    for section, defaults in (*(variant.defaults if variant else {}).items(), *(card.defaults if card else {}).items()):
        if section == "datasets":
            datasets = process.get("datasets")
            for dataset in datasets if isinstance(datasets, list) else ():
                _fill_in(dataset, defaults)
        elif section == "network":  # its absence means a full fine-tune
            _fill_in(process.get("network"), defaults)
        else:
            _fill_in(process.setdefault(section, {}), defaults)
    for above in (variant, card):
        if above and "sample" in above.defaults:
            _fill_in(process.get("first_sample"), above.defaults["sample"])


def _fill_in_for_twin(process: dict[str, Any], card: ModelCard | None) -> None:
    """Where samples are drawn on other weights, those decide how."""
    sample = process.get("sample")
    setting = sample.get("model") if isinstance(sample, dict) else None
    drawn = variant_of_samples(setting, card) if card and isinstance(setting, str) else None
    for section in (sample, process.get("first_sample")):
        _fill_in(section, drawn.defaults.get("sample", {}) if drawn else {})


def _adapter_types(process: dict[str, Any]) -> list[str]:
    return [str(entry.get("type")) for _, entry in adapter_entries(process) if isinstance(entry, dict)]


def _is_in_pixels(name: str) -> bool:
    return name in ADAPTERS and ADAPTERS[name].is_in_pixels


def _take_lora_config(process: dict[str, Any]) -> list[Finding]:
    """Make an adapter's `lora_config` the job's `network`, in place."""
    for location, entry in adapter_entries(process):
        if isinstance(entry, dict) and entry.get("lora_config") is not None:
            where = (*location, "lora_config")
            if process.get("network") is not None:
                return [(where, "there is also a `network`: keep one of them")]
            process["network"] = entry.pop("lora_config")
    return []


def _check_what_is_trained(process: dict[str, Any]) -> list[Finding]:
    train = process.get("train")
    full_finetune = train.get("full_finetune") if isinstance(train, dict) else None
    if full_finetune and (frozen := [name for name in _adapter_types(process) if not _is_in_pixels(name)]):
        what = f"the {frozen[0]} adapter works on a frozen model: keep one of the two"
        return [(("train", "full_finetune"), what)]
    if "network" not in process and not full_finetune and not process.get("adapter"):
        what = (
            "missing. Write `network: {type: lora}` for a LoRA, or `train: {full_finetune: true}` to train all weights"
        )
        return [(("network",), what)]
    model = process.get("model")
    if full_finetune and isinstance(model, dict) and model.get("quantize") is True:
        what = "trained weights cannot be quantized. Remove the key, or train a `network`"
        return [(("model", "quantize"), what)]
    if "network" in process and full_finetune:
        return [(("train", "full_finetune"), "there is also a `network`: keep one of them")]
    if full_finetune and (name := _save_format(process)) in LORA_ONLY:
        what = f"`{name}` is a LoRA file format. Write `safetensors`, one file with the released names, or `diffusers`"
        return [(("save", "save_format"), what)]
    return []


def _read_mean_flow(process: dict[str, Any]) -> list[Finding]:
    """ai-toolkit's spelling of the objective is a value of `loss_type`."""
    train = process.get("train")
    if not isinstance(train, dict) or str(train.get("loss_type")).strip().lower() != MEAN_FLOW:
        return []
    del train["loss_type"]
    if str(train.setdefault("objective", MEAN_FLOW)).strip().lower() != MEAN_FLOW:
        what = f"`{MEAN_FLOW}` means `objective: {MEAN_FLOW}`, and the objective is another one: keep one of them"
        return [(("train", "loss_type"), what)]
    return []


def _read_slider(process: dict[str, Any]) -> list[Finding]:
    """ai-toolkit's section `slider` holds the settings of an objective, which its own type of process implies."""
    slider, train = process.pop("slider", None), process.setdefault("train", {})
    if not isinstance(train, dict) or (slider is None and _kind(process) != SLIDER):
        return []
    if str(train.setdefault("objective", SLIDER)).strip().lower() != SLIDER:
        what = f"means `objective: {SLIDER}`, and the objective is another one: keep one of them"
        return [(("slider",) if slider is not None else ("type",), what)]
    if slider is not None and train.setdefault("objective_params", slider) is not slider:
        return [(("slider",), "there is also `train.objective_params`: keep one of them")]
    return []


def _kind(process: dict[str, Any]) -> str:
    return str(process.get("type")).strip().lower()


def _loss_type(process: dict[str, Any]) -> str:
    train = process.get("train")
    return str(train.get("loss_type")).strip().lower() if isinstance(train, dict) else ""


def _read_stepped(process: dict[str, Any]) -> list[Finding]:
    """ai-toolkit's `stepped` is the squared error with a weight for each noise level."""
    if _loss_type(process) != STEPPED:
        return []
    train = process["train"]
    train["loss_type"] = "mse"
    if str(train.setdefault("loss_weighting", STEPPED)).strip().lower() != STEPPED:
        what = f"`{STEPPED}` means `loss_weighting: {STEPPED}`, and the weighting is another one: keep one of them"
        return [(("train", "loss_type"), what)]
    return []


def _read_wavelet(process: dict[str, Any]) -> list[Finding]:
    """ai-toolkit's `wavelet` compares Haar coefficients, whose squares have the same mean as those of the errors."""
    if _loss_type(process) != "wavelet":
        return []
    process["train"]["loss_type"] = "mse"
    what = (
        "is read as `mse`, which it equals: the Haar transform is orthonormal, so that it keeps the sum of all squares"
    )
    return [(("train", "loss_type"), what)]


def _notices(process: dict[str, Any]) -> list[Finding]:
    notices: list[Finding] = []
    network, train = process.get("network"), process.get("train")
    if isinstance(network, dict):
        linear, alpha = network.get("linear"), network.get("linear_alpha")
        if isinstance(alpha, int | float) and isinstance(linear, int) and linear > 0 and alpha != linear:
            what = f"the scale is alpha / rank = {alpha / linear:g}; ai-toolkit would have used 1 with FLUX models"
            notices.append((("network", "linear_alpha"), what))
    ema = train.get("ema_config") if isinstance(train, dict) else None
    if isinstance(ema, dict) and "use_ema" not in ema:
        notices.append((("train", "ema_config"), "is off without `use_ema: true`"))
    if isinstance(network, dict) and (what := _lora_format_notice(process)):
        notices.append((("save", "save_format"), what))
    return notices


def _lora_format_notice(process: dict[str, Any]) -> str:
    """A notice on what `save_format` means in a LoRA job; empty if none is needed."""
    name, save = _save_format(process), process.get("save")
    if isinstance(save, dict) and "lora_format" in save:
        return ""
    if isinstance(train := process.get("train"), dict) and train.get("merge_network_on_save"):
        return ""
    if name in LORA_ONLY:
        return f"read as `lora_format: {name}`, which is the key for LoRA files"
    if name == "diffusers":
        return "has no effect on a LoRA, as in ai-toolkit: for diffusers' names write `lora_format: diffusers`"
    return ""


def _infer_lora_format(process: dict[str, Any]) -> None:
    """Set `lora_format` from `save_format` if it means that, so that the job overrides the card's default."""
    name = _save_format(process)
    if "network" in process and name in LORA_ONLY:
        process["save"].setdefault("lora_format", name)


def _save_format(process: dict[str, Any]) -> str:
    save = process.get("save")
    return str(save.get("save_format")).strip().lower() if isinstance(save, dict) else ""


def _fill_in(section: Any, defaults: Mapping[str, Any]) -> None:
    if not isinstance(section, dict):
        return
    for key, value in defaults.items():
        if isinstance(value, Mapping):
            _fill_in(section.setdefault(key, {}), value)
        else:
            section.setdefault(key, value)
