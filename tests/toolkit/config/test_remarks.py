from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from tests.toolkit.config.conftest import Check
from toolkit.cards import ModelCard, Variant
from toolkit.config.job import job_sections
from toolkit.config.reading.known import Known
from toolkit.config.reading.load import check_job
from toolkit.config.reference.docs import config_docs
from toolkit.config.remarks import Notice, OnlyWith, remarks
from toolkit.config.updates.average import EmaConfig
from toolkit.section import Section

DISTILLED = Variant("Distilled", ("weights-distilled",), "Train the base.", "train_distilled")
CARD = ModelCard("flux2", "flux2", "One", "For tests.", "", "none", False, 16, 1, variants=(DISTILLED,))


class Oven(Section):
    heat: Annotated[int, OnlyWith("with `is_on: true`", lambda context: context.parent.is_on)] = 1
    light: Annotated[bool, Notice(lambda context: "pretty" if context.value else None)] = False


class Kitchen(Section):
    is_on: bool = False
    ovens: tuple[Oven, ...] = Field((), description="Some.")


def test_a_key_that_nothing_reads_is_named_with_what_it_depends_on() -> None:
    kitchen = Kitchen.model_validate({"ovens": [{}, {"heat": 3, "light": True}]})
    assert remarks(kitchen, None, from_the_card=()) == [
        (("ovens", 1, "heat"), "has no effect here: it is used only with `is_on: true`"),
        (("ovens", 1, "light"), "pretty"),
    ]
    read = Kitchen.model_validate({"is_on": True, "ovens": [{"heat": 3}]})
    assert remarks(read, None, from_the_card=()) == []


def test_a_key_that_is_set_to_its_default_and_does_nothing_is_named_unless_it_is_off() -> None:
    (found,) = remarks(Kitchen.model_validate({"ovens": [{"heat": 1, "light": False}]}), None, from_the_card=())
    assert found[0] == ("ovens", 0, "heat")


def test_a_default_beside_a_switch_that_is_off_is_no_surprise() -> None:
    assert remarks(EmaConfig.model_validate({"use_ema": False, "ema_decay": 0.99}), None, from_the_card=()) == []
    (found,) = remarks(EmaConfig.model_validate({"use_ema": False, "ema_decay": 0.9}), None, from_the_card=())
    assert found[0] == ("ema_decay",)


def test_keys_that_are_not_set_and_values_from_the_card_get_no_remark() -> None:
    assert remarks(Kitchen.model_validate({"ovens": [{}]}), None, from_the_card=()) == []
    assert remarks(Kitchen(ovens=(Oven(heat=3),)), None, from_the_card={("ovens", 0, "heat")}) == []


def test_the_documentation_says_what_a_key_depends_on() -> None:
    text = config_docs()
    notes = [
        (key, note)
        for section in job_sections().values()
        for key, field in section.model_fields.items()
        for note in field.metadata
        if isinstance(note, OnlyWith)
    ]
    assert len(notes) > 20
    for key, note in notes:
        assert any(f"Used only {note.when}." in line for line in text.splitlines() if f"`{key}`" in line), key


TOUCHED: list[tuple[str, Any, str, Any]] = [  # a key that does nothing, and what makes it act
    ("datasets.0.cache_latents", False, "datasets.0.random_crop", True),
    ("datasets.0.control_dropout_rate", 0.5, "datasets.0.control_path", "images"),
    ("datasets.0.control_transparent_color", [9, 9, 9], "datasets.0.control_path", "images"),
    ("datasets.0.allow_missing_control", True, "datasets.0.control_path", "images"),
    ("datasets.0.caption_dropout_rate", 0.5, "train.unload_text_encoder", False),
    ("datasets.0.default_caption", "a cat", "train.cache_text_embeddings", True),
    ("logging.log_every", 100, "log_dir", "logs"),
    ("train.cfg_scale", 3.5, "card", {"guidance_embed"}),
    ("train.bypass_guidance_embedding", True, "card", {"guidance_embed", "guidance_bypass"}),
    ("train.reg_weight", 0.5, "datasets.0.is_reg", True),
    ("train.diff_output_preservation_class", "cat", "train.diff_output_preservation", True),
    ("train.diff_output_preservation_multiplier", 2, "datasets.0.diff_output_preservation", True),
    ("datasets.0.diff_output_preservation_class", "cat", "train.diff_output_preservation", True),
    ("train.blank_prompt_preservation_multiplier", 2, "train.blank_prompt_preservation", True),
    ("datasets.0.invert_mask", True, "datasets.0.alpha_mask", True),
    ("datasets.0.mask_min_value", 0.3, "datasets.0.mask_path", "images"),
    ("train.inverted_mask_prior_multiplier", 2, "train.inverted_mask_prior", True),
    ("train.guidance_loss_target", 4, "train.do_guidance_loss", True),
    ("train.guidance_loss_schedule", "sigma", "train.do_guidance_loss", True),
    ("train.guidance_loss_form", "mirrored", "train.do_guidance_loss", True),
    ("train.do_guidance_loss_cfg_zero", True, "train.do_guidance_loss", True),
    ("train.unconditional_prompt", "blurry", "train.do_guidance_loss", True),
    ("train.differential_guidance_scale", 2, "train.do_differential_guidance", True),
    ("train.next_sample_timesteps", 4, "train.timestep_type", "next_sample"),
    ("train.ema_config.ema_decay", 0.9, "train.ema_config.use_ema", True),
    ("train.force_first_sample", True, "train.disable_sampling", False),
    ("sample.neg", "blurry", "card", {"true_cfg"}),
    ("sample.guidance_scale", 3.5, "card", {"true_cfg"}),
    ("sample.guidance_scale", 3.5, "card", {"guidance_embed"}),
    ("sample.samples.0.guidance_scale", 3.5, "card", {"guidance_embed"}),
    ("model.model_kwargs.train_distilled", True, "model.name_or_path", "owner/weights-distilled"),
    ("sample.samples.0.neg", "blurry", "card", {"true_cfg"}),
    ("sample.sample_start_step", 50, "sample.sample_every", 10),
    ("save.max_step_saves_to_keep", 9, "save.save_every", 10),
    ("model.qtype", "qint4", "model.quantize", True),
    ("model.qtype_te", "qint4", "model.quantize_te", True),
    ("model.quantize_cache", "kept", "model.quantize_te", True),
    ("model.layer_offloading_transformer_percent", 0.5, "model.layer_offloading", True),
    ("model.model_kwargs.match_target_res", True, "datasets.0.control_path", "images"),
]


@pytest.mark.parametrize(("key", "value", "other", "remedy"), TOUCHED)
def test_a_key_does_nothing_alone_and_acts_with_its_partner(
    key: str, value: Any, other: str, remedy: Any, job: dict[str, Any], known: Known, tmp_path: Path
) -> None:
    job["config"]["process"][0] |= {
        "train": {"unload_text_encoder": True, "disable_sampling": True, "ema_config": {"use_ema": False}},
        "sample": {"sample_every": 0, "samples": [{"prompt": "a cat"}]},
        "save": {"save_every": 0},
    }

    def notices(overrides: dict[str, Any], capabilities: Collection[str] = ()) -> str:
        card = replace(CARD, capabilities=frozenset({*capabilities, "references"}))
        lines = [f"{key}={value if value != 'images' else tmp_path / 'images'}" for key, value in overrides.items()]
        here = replace(known, cards={**known.cards, "flux2": card})
        told = check_job(copy.deepcopy(job), path=Path("job.yaml"), known=here, overrides=lines).notices
        place = "config.process[0]." + key.replace(".0.", "[0].")
        return "\n".join(line for line in told if line.startswith(f"{place}: "))

    assert "has no effect" in notices({key: value})
    with_it = notices({key: value}, remedy) if other == "card" else notices({key: value, other: remedy})
    assert with_it == ""


@pytest.mark.parametrize("key", ["sample_every", "sample_start_step"])
def test_a_remark_about_first_samples_is_not_repeated(key: str, process: dict[str, Any], check: Check) -> None:
    process["sample"] = process["first_sample"] = {key: 7}
    (notice,) = check().notices
    assert notice.startswith(f"config.process[0].first_sample.{key}: has no effect here")


def test_flags_behind_a_prompt_count_as_given(process: dict[str, Any], check: Check) -> None:
    process["sample"] = {"prompts": ["a cat --n blurry"]}
    (notice,) = check().notices
    assert notice.startswith("config.process[0].sample.prompts[0].neg: has no effect here")


def test_samples_without_a_reference_are_named_in_an_edit_job(
    process: dict[str, Any], check: Check, tmp_path: Path
) -> None:
    process["datasets"][0]["control_path"] = str(tmp_path / "images")
    process["sample"] = {"prompts": ["a cat"]}
    (notice,) = check().notices
    assert "sample.prompts: none of the samples has a reference image" in notice
    picture = tmp_path / "cat.png"
    picture.touch()
    process["sample"] = {"prompts": ["a cat", f"a cat --ctrl_img {picture}"]}
    assert check().notices == ()


@pytest.mark.parametrize(("sizes", "is_said"), [([512, 512], True), ([512, 768], False)])
def test_a_resolution_given_twice_is_reported(sizes: list[int], is_said: bool, process: Any, check: Check) -> None:
    process["datasets"][0]["resolution"] = sizes
    assert any("resolution: a size is listed more than once" in notice for notice in check().notices) == is_said


@pytest.mark.parametrize(("lr", "is_said"), [(1e-4, False), (9e-3, False), (1e-2, True), (1, True)])
def test_a_rate_that_destroys_the_weights_is_named(lr: float, is_said: bool, process: Any, check: Check) -> None:
    process["train"]["lr"] = lr
    assert any("it destroys the weights" in notice for notice in check().notices) == is_said


@pytest.mark.parametrize("where", ["train", "dataset", None])
def test_cached_captions_are_used_although_the_encoder_is_unloaded(
    where: str | None, process: Any, check: Check
) -> None:
    process["train"]["unload_text_encoder"] = True
    process["trigger_word"] = "p0rc"
    if where is not None:
        (process["train"] if where == "train" else process["datasets"][0])["cache_text_embeddings"] = True
    job = check()
    assert job.config.process[0].uses_captions == (where is not None)
    told = [notice for notice in job.notices if 'CAPTIONS ARE NOT USED: every image is trained with "p0rc"' in notice]
    assert bool(told) == (where is None)


def test_a_setting_of_full_fine_tunes_is_named_in_a_job_that_trains_a_network(
    process: dict[str, Any], check: Check
) -> None:
    process["train"] = {"full_finetune_weights": "fp32"}
    (notice,) = check().notices
    assert "full_finetune_weights: has no effect here: it is used only with `full_finetune: true`" in notice
