"""Jobs that change what a step minimises: what is refused, what it costs, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tiny import checked_of, losses, problems_of, run_job, write_dataset, write_job
from toolkit.output.events import read_events

DOP = {"diff_output_preservation": True, "diff_output_preservation_class": "shape"}
BLANK = {"blank_prompt_preservation": True}
GUIDED = {"do_guidance_loss": True, "guidance_loss_target": [2, 4], "unconditional_prompt": "nothing"}
TRIGGER = {"trigger_word": "zorbo"}


def dataset(folder: Path, **settings: Any) -> dict[str, Any]:
    return {"folder_path": str(write_dataset(folder / "images")), "resolution": 32, **settings}


def masked(folder: Path, **settings: Any) -> dict[str, Any]:
    """A dataset whose masks show the left half of each image."""
    masks = folder / "masks"
    masks.mkdir(exist_ok=True)
    for index in range(4):
        image = Image.new("L", (32, 32))
        image.paste(255, (0, 0, 16, 32))
        image.save(masks / f"{index}.png")
    return dataset(folder, mask_path=str(masks), **settings)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two kinds of preservation": ({**TRIGGER, "train": {**DOP, **BLANK}}, "keep one of them"),
    "preservation without a trigger word": ({"train": DOP}, "train.diff_output_preservation: needs the word"),
    "a class that has the trigger word": (
        {**TRIGGER, "train": {**DOP, "diff_output_preservation_class": "zorbo shape"}},
        "train.diff_output_preservation_class",
    ),
    "preservation in a full fine-tune": (
        {"network": None, "train": {**BLANK, "full_finetune": True}},
        "train.blank_prompt_preservation: compares the model with and without the network",
    ),
    "divergence in a full fine-tune": (
        {"network": None, "train": {"do_prior_divergence": True, "full_finetune": True}},
        "train.do_prior_divergence",
    ),
    "preservation with another objective": (
        {"train": {**BLANK, "objective": "mean_flow", "objective_params": {"steps": 2}}},
        "train.blank_prompt_preservation: is part of `objective: velocity`",
    ),
    "guidance with another objective": (
        {"train": {**GUIDED, "objective": "mean_flow", "objective_params": {"steps": 2}}},
        "train.do_guidance_loss: is part of `objective: velocity`",
    ),
    "a weight of nothing": ({"train": {**BLANK, "blank_prompt_preservation_multiplier": 0}}, "needs a number above 0"),
    "three guidances": (
        {"train": {"do_guidance_loss": True, "guidance_loss_target": [1, 2, 3]}},
        "guidance_loss_target",
    ),
    "guidance the wrong way round": (
        {"train": {"do_guidance_loss": True, "guidance_loss_target": [4, 2]}},
        "the smaller number comes first",
    ),
    "a prior outside of no mask": (
        {"train": {"inverted_mask_prior": True}},
        "no dataset has `mask_path` or `alpha_mask`",
    ),
    "guidance of nothing": ({"train": {"do_guidance_loss": True, "guidance_loss_target": 0}}, "guidance_loss_target"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused(case: str, tmp_path: Path) -> None:
    sections, what = REFUSED[case]
    (problem,) = problems_of(tmp_path, **sections)
    assert what in problem


def test_prior_sets_alone_teach_nothing_and_are_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, datasets=[dataset(tmp_path, prior_reg=True)])
    assert "nothing would be learned" in problem


def test_a_dataset_turns_preservation_on_or_off_for_itself(tmp_path: Path) -> None:
    sets = [dataset(tmp_path, diff_output_preservation=False), dataset(tmp_path)]
    assert problems_of(tmp_path, **TRIGGER, train=DOP, datasets=sets) == []
    assert "every dataset turns it off" in problems_of(tmp_path, **TRIGGER, train=DOP, datasets=sets[:1])[0]
    sets = [dataset(tmp_path, diff_output_preservation=True, diff_output_preservation_class="thing"), dataset(tmp_path)]
    captions = checked_of(tmp_path, **TRIGGER, datasets=sets).needs.captions
    assert {"zorbo a picture of colour 1", "thing a picture of colour 1", "zorbo", "thing"} <= captions
    (problem,) = problems_of(tmp_path, **TRIGGER, train=BLANK, datasets=sets)
    assert problem.startswith("datasets[0].diff_output_preservation: ")


@pytest.mark.parametrize(
    ("sections", "with_gradient", "without_gradient", "texts"),
    [
        ({"train": DOP}, 2, 1, {"shape a picture of colour 0", "shape"}),
        ({"train": {**DOP, "diff_output_preservation_class": ""}}, 2, 1, {"a picture of colour 0", ""}),
        ({"train": BLANK}, 2, 1, {""}),
        ({"train": {"do_prior_divergence": True}}, 1, 1, set()),
        ({"train": GUIDED}, 1, 1, {"nothing"}),
        ({"train": {**GUIDED, **BLANK, "do_prior_divergence": True}}, 2, 3, {"nothing", ""}),
    ],
)
def test_the_plan_counts_the_passes_and_encodes_the_words(
    sections: dict[str, Any], with_gradient: int, without_gradient: int, texts: set[str], tmp_path: Path
) -> None:
    needs = checked_of(tmp_path, **TRIGGER, **sections).needs
    assert (needs.passes.with_gradient, needs.passes.without_gradient) == (with_gradient, without_gradient)
    assert texts <= needs.captions <= set(needs.texts)


def test_words_of_captions_that_are_kept_on_disk_are_kept_there_too(tmp_path: Path) -> None:
    sets = [dataset(tmp_path, cache_text_embeddings=True)]
    texts = checked_of(tmp_path, **TRIGGER, train=DOP, datasets=sets).needs.texts
    assert texts["shape a picture of colour 0"] == texts["zorbo a picture of colour 0"] is not None


def _with_references(folder: Path) -> list[dict[str, Any]]:
    shown = folder / "shown"
    write_dataset(shown, size_px=64)
    return [dataset(folder, control_path=str(shown)), dataset(folder, is_reg=True, prior_reg=True)]


def test_masks_are_encoded_with_the_images_and_kept_with_them(tmp_path: Path) -> None:
    needs = checked_of(tmp_path, datasets=[masked(tmp_path, cache_latents_to_disk=True, mask_min_value=0.2)]).needs
    assert len(needs.pictures) == 8
    assert len({picture.folder for picture in needs.pictures}) == 1


def test_two_masks_for_each_image_are_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, datasets=[masked(tmp_path, alpha_mask=True)])
    assert "keep one of them" in problem


def test_a_mask_outside_of_the_crop_ends_the_run_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = masked(tmp_path)
    for index in range(4):
        Image.new("RGB", (40, 16)).save(tmp_path / "images" / f"{index}.png")
        image = Image.new("L", (40, 16))
        image.paste(255, (0, 0, 1, 16))
        image.save(tmp_path / "masks" / f"{index}.png")
    path = write_job(tmp_path, datasets=[sets])
    for index in range(4):
        Image.new("RGB", (40, 16)).save(tmp_path / "images" / f"{index}.png")
    assert run_job(path).status == "failed"
    assert "the mask is empty within the crop of its image" in "".join(capsys.readouterr())


RUNS: dict[str, dict[str, Any]] = {
    "preservation and guidance": {
        "train": {**DOP, **GUIDED, "gradient_accumulation": 2, "gradient_checkpointing": False},
        "network": {"dropout": 0.2},
    },
    "masks and their prior": {
        "train": {"inverted_mask_prior": True, "gradient_accumulation": 2},
        "masked": {"random_crop": True, "resolution": 16},
    },
    "blank prompt, quantized and offloaded": {
        "train": {**BLANK, "gradient_accumulation": 2, "dtype": "bf16"},
        "network": {"dropout": 0.2},
        "model": {"quantize": True, "qtype": "qfloat8", "layer_offloading": True},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.torture if "offloaded" in case else ()) for case in RUNS]
)
def test_a_run_logs_each_term_and_resumes_bit_for_bit(case: str, tmp_path: Path) -> None:
    """A run and two thirds of one, with references, batches of two, and a prior set."""
    options = dict(RUNS[case])
    is_masked, more = "masked" in options, options.pop("masked", {})
    options |= {**TRIGGER, "datasets": [masked(tmp_path, **more)] if is_masked else _with_references(tmp_path)}
    term = "outside_prior" if is_masked else "preservation"
    job, output = tmp_path / "job.yaml", tmp_path / "output" / "job"
    write_job(
        tmp_path,
        **{**options, "train": {**options["train"], "steps": 3}, "save": {"save_every": 1, "max_states_to_keep": 0}},
    )
    assert run_job(job).status == "done"
    events, whole = [event for event in read_events(output / "events.jsonl") if event["kind"] == "step"], losses(output)
    assert {"velocity", term} == {name for event in events for name in event["terms"]}
    assert events[0]["terms"][term] < 1e-4, "the network starts at zero, as the base"
    assert run_job(job, from_step=1).status == "done"
    again = [event for event in read_events(output / "events.jsonl") if event["kind"] == "step"][len(events) :]
    assert [event["step"] for event in again] == [2, 3]
    assert losses(output) == whole
