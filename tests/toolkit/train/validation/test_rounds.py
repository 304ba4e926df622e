"""Rounds of validation in runs of next to no size: what they score, and that nothing else notices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from tests.small_run import STEPS, SmallRun, texts
from tests.tiny import losses, tiny_model
from toolkit.config.updates.average import AVERAGE
from toolkit.data.buckets import Fit
from toolkit.data.examples import Example
from toolkit.errors import Interrupted
from toolkit.files import read_safetensors_header
from toolkit.output.bundles import newest_bundle
from toolkit.output.events import read_events
from toolkit.train.resume import ResumeChoice
from toolkit.train.tasks.checkpoint import read_part
from toolkit.train.validation.grid import Grid, Subject
from toolkit.train.validation.history import VALIDATION
from toolkit.weights.tensor_files import read_tensors

EXAMPLE = Example(
    Path("a.png"), "a", "a", "", 0.0, Fit((32, 32), (32, 32), (0, 0), (32, 32)), False, False, False, 1.0, False, 0
)
SUBJECTS = (
    Subject("held_out", EXAMPLE, "a zorbo"),
    Subject("held_out", replace(EXAMPLE, content_hash="b"), "a zorbo"),
    Subject("train", replace(EXAMPLE, content_hash="c"), "a zorbo"),
    Subject("preserved", replace(EXAMPLE, content_hash="c"), "a dog"),
)
GRID = Grid(SUBJECTS, (0.9, 0.6, 0.3), together=2, every=2)
EMA = {"ema_config": {"use_ema": True, "ema_decay": 0.5}}
RUNS = {
    "lora": SmallRun(grid=GRID),
    "lora-ema": SmallRun(EMA, grid=GRID),
    "full": SmallRun({"gradient_accumulation": 2}, network=None, grid=GRID),
}


def _rounds(folder: Path) -> dict[int, dict[str, Any]]:
    events = [event for event in read_events(folder / "events.jsonl") if event["kind"] == "validation"]
    return {event["step"]: {key: event[key] for key in ("figures", "gap", "best")} for event in events}


def _state(folder: Path) -> dict[str, torch.Tensor]:
    bundle, _ = newest_bundle(folder)
    assert bundle is not None
    assert bundle.step == STEPS
    parts = {part: read_part(bundle, part) for part in ("weights", "optimizer", AVERAGE)}
    return {f"{part} {name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def _history(folder: Path) -> dict[str, Any]:
    bundle, _ = newest_bundle(folder)
    assert bundle is not None
    found: dict[str, Any] = json.loads((bundle.folder / f"{VALIDATION}.json").read_text())
    return found


@pytest.mark.parametrize("name", RUNS)
def test_training_is_not_disturbed_by_a_bit(name: str, tmp_path: Path) -> None:
    RUNS[name].run(tmp_path / "with")
    replace(RUNS[name], grid=None).run(tmp_path / "without")
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    one, other = _state(tmp_path / "with"), _state(tmp_path / "without")
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
    assert list(_rounds(tmp_path / "with")) == [0, 2, 4, 6]


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on_with_the_same_figures(name: str, tmp_path: Path) -> None:
    RUNS[name].run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        RUNS[name].run(tmp_path / "stopped", stop_in=3)
    RUNS[name].run(tmp_path / "stopped")
    assert _rounds(tmp_path / "stopped") == _rounds(tmp_path / "whole")
    assert _history(tmp_path / "stopped") == _history(tmp_path / "whole")


def test_nothing_has_changed_before_the_first_step(tmp_path: Path) -> None:
    RUNS["lora"].run(tmp_path)
    rounds = _rounds(tmp_path)
    assert {kind: figure["mean"] for kind, figure in rounds[0]["figures"].items()} == dict.fromkeys(GRID.kinds, 0.0)
    assert all(figure["mean"] != 0 for figure in rounds[6]["figures"].values())
    assert rounds[6]["figures"]["held_out"].keys() == {"mean", "half", "num", "bands"}
    assert list(rounds[6]["figures"]["held_out"]["bands"]) == ["0.25-0.5", "0.5-0.75", "0.75-1"]


def test_a_stop_does_not_wait_for_a_round_which_is_made_up_for_later(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        RUNS["lora"].run(tmp_path / "stopped", stop_in=2)  # the round of step 2 is cut short
    assert list(_rounds(tmp_path / "stopped")) == [0]
    RUNS["lora"].run(tmp_path / "stopped")
    RUNS["lora"].run(tmp_path / "whole")
    assert _rounds(tmp_path / "stopped") == _rounds(tmp_path / "whole")


def test_the_plan_counts_the_passes_of_a_round_and_the_run_its_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, forward = [], Flux2Transformer2DModel.forward

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            counted.append(0)
            return forward(self, *args, **kwargs)
        with FlopCounterMode(display=False) as flops:
            found = forward(self, *args, **kwargs)
        counted.append(flops.get_total_flops())
        return found

    monkeypatch.setattr(Flux2Transformer2DModel, "forward", counting)
    RUNS["lora"].run(tmp_path)
    assert GRID.num_rounds(STEPS) == len(_rounds(tmp_path)) == 4
    work = [flops for flops in counted if flops]
    assert len(work) == GRID.base_passes + GRID.num_rounds(STEPS) * GRID.passes
    assert counted.count(0) == STEPS
    base, rounds = sum(work[: GRID.base_passes]), sum(work[GRID.base_passes :])
    assert rounds / GRID.num_rounds(STEPS) == pytest.approx(GRID.round_share * base, rel=0.1), "what is told at first"
    took = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "validation"][-1]
    pass_s = took["seconds"] / took["passes"]
    assert GRID.as_json(STEPS, pass_s)["round_s"] == pytest.approx(took["seconds"], abs=0.01)
    assert "as measured here" in GRID.describe(STEPS, pass_s)[0]


def test_the_plan_counts_the_bytes_that_a_round_needs_kept(tmp_path: Path) -> None:
    RUNS["full"].run(tmp_path)
    kept = read_tensors(tmp_path / "validation" / "base.safetensors")
    num_bytes = sum(4 * tensor.numel() for name, tensor in kept.items() if not name.endswith("sigmas"))
    size = tiny_model().card.size
    assert size is not None
    assert num_bytes == GRID.tracked_px * size.vae.latents


def test_the_best_weights_are_kept_with_what_they_are_best_by(tmp_path: Path) -> None:
    replace(RUNS["full"], save={"save_best": True, "max_step_saves_to_keep": 1}).run(tmp_path)
    best = _rounds(tmp_path)[6]["best"]
    said = json.loads(read_safetensors_header(tmp_path / "job_best.safetensors")["__metadata__"]["validation"])
    assert said["step"] == best["step"] > 0
    assert said["figure"] == "held_out"
    assert said["mean"] == best["mean"] < 0
    assert said["half"] == best["half"] > 0


def test_another_run_does_not_overwrite_the_best_weights_of_the_one_before(tmp_path: Path) -> None:
    run = replace(RUNS["full"], save={"save_best": True})
    run.run(tmp_path)
    before = (tmp_path / "job_best.safetensors").read_bytes()
    replace(run, train={"lr": 0.02}).run(tmp_path, resume=ResumeChoice("none"))
    aside = [path.read_bytes() for path in tmp_path.rglob("job_best.safetensors")]
    assert before in aside
    assert len(aside) == 2


def test_too_many_rounds_without_gain_end_the_run_for_good(tmp_path: Path) -> None:
    run = replace(
        RUNS["lora"],
        train={"lr": 100.0, "optimizer": "adagrad", "steps": 40, "validation_config": {"early_stop_patience": 2}},
    )
    run.run(tmp_path)
    assert list(_rounds(tmp_path)) == [0, 2, 4]
    assert sorted(losses(tmp_path)) == [1, 2, 3, 4]
    assert (tmp_path / "job.safetensors").is_file()
    run.run(tmp_path)  # it stays at that
    assert sorted(losses(tmp_path)) == [1, 2, 3, 4]


def test_changed_images_start_a_new_history(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        RUNS["lora"].run(tmp_path, stop_in=4)
    other = replace(GRID, subjects=(replace(SUBJECTS[0], text="a cat"), *SUBJECTS[1:]))
    replace(RUNS["lora"], grid=other).run(tmp_path)
    assert [one["step"] for one in _history(tmp_path)["rounds"]] == [4, 6]
    assert _history(tmp_path)["base_step"] == 0
    assert any("earlier rounds are discarded" in text for text in texts(tmp_path))


@pytest.mark.parametrize("loses", ["scores", "tracks"])
def test_a_full_fine_tune_whose_base_is_lost_says_so(loses: str, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        RUNS["full"].run(tmp_path, stop_in=4)
    if loses == "tracks":
        (tmp_path / "validation" / "base.safetensors").unlink()
        RUNS["full"].run(tmp_path)
    else:
        replace(RUNS["full"], grid=replace(GRID, sigmas=(0.5,))).run(tmp_path)
    assert any("changes are relative to step 4" in text for text in texts(tmp_path))
    assert [one["step"] for one in _history(tmp_path)["rounds"]] == [4, 6]
