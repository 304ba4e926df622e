"""Settings that only some models support, checked against the model's card."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config.drawing.twin import twin_problems
from toolkit.config.sample import SampleItem, with_views
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem
from toolkit.objectives.params import TeacherParams


def beyond_the_model(process: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    """Settings of a process that its model does not support according to the card."""
    return [
        *_references(process, card),
        *_guidance(process, card),
        *_teacher(process, card),
        *_assistant_lora(process, card),
        *twin_problems(process, card),
    ]


def _references(process: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    most = card.reference_limits.max_count if "references" in card.capabilities else 0
    counts = {
        f"datasets[{index}].control_path": len(one.control_folders) - process.num_control_folders
        for index, one in enumerate(process.datasets)
    }
    counts |= {f"{path}.ctrl_img": len(item.references) for path, item in _samples(process)}
    if most == 0:
        what = f"{card.label} takes no reference images. Remove the key, or choose a model that does"
    else:
        what = (
            f"{card.label} takes at most {most} reference image{'s' if most > 1 else ''} per image. Remove the others"
        )
    return [Problem(path, what) for path, count in counts.items() if count > most]


def _guidance(process: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    if "fixed_guidance" not in card.capabilities:
        return []
    what = f"{card.label} works with guidance 1 only. Remove the key"
    paths = [f"{path}.guidance_scale" for path, item in _samples(process) if item.guidance_scale != 1]
    params = process.train.objective_params
    if isinstance(params, TeacherParams) and params.has_teacher and "guidance_scale" in params.model_fields_set:
        paths += ["train.objective_params.guidance_scale"] if params.guidance_scale != 1 else []
    return [Problem(path, what) for path in paths]


def _teacher(process: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    params, is_bypassed = process.train.objective_params, process.train.bypass_guidance_embedding
    if not isinstance(params, TeacherParams) or not params.has_teacher:
        return []
    if not is_bypassed or "guidance_bypass" not in card.capabilities:
        return []
    what = "the teacher gets its guidance through the guidance embedding, which this key bypasses. Remove the key"
    return [Problem("train.bypass_guidance_embedding", what)]


def _assistant_lora(process: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    if process.model.assistant_lora_path is None or "assistant_lora" in card.capabilities:
        return []
    what = f"{card.label} cannot be trained with an assistant LoRA. Remove the key"
    return [Problem("model.assistant_lora_path", what)]


def _samples(process: TrainingProcessConfig) -> list[tuple[str, SampleItem]]:
    return [
        (f"{name}.samples[{index}]", item.with_controls(process.num_control_images))
        for name, sample in (("sample", process.sample), ("first_sample", process.first_sample))
        if sample is not None
        for index, item in enumerate(with_views(sample.items(), process.adapter))
    ]
