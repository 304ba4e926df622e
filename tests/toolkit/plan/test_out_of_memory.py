"""What is said when the card is full in the middle of a run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Model
from extensions_built_in.diffusion_models.flux2.size import DEV
from tests.tiny import run_job, write_job
from toolkit.output.bundles import newest_bundle
from toolkit.plan.machine import Machine, Room
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.out_of_memory import advice
from toolkit.plan.plan_inputs import PlanInputs, Workload
from toolkit.units import GB

CARD = Machine("a card", gpu_bytes=24 * GB, free_gpu_bytes=1 * GB)
PLAN = make_plan(PlanInputs(DEV, Workload(1024**2, 1024**2), "cuda", qtype="qint4", te_qtype="qint4"))


def test_the_advice_is_changes_that_take_less_than_what_was_planned() -> None:
    lines = advice(PLAN, CARD, own_bytes=[22 * GB])
    assert "plan predicted" in lines[0] and not any("Other programs" in line for line in lines)
    assert lines[1] == "Any of these makes the run smaller:"
    peaks = [float(line.split(": ")[-1].split(" GB on the card")[0]) for line in lines[2:]]
    assert peaks and all(peak * GB < 0.91 * PLAN.peak_gpu_bytes for peak in peaks)


def test_other_programs_on_the_card_are_named_first() -> None:
    lines = advice(PLAN, CARD, own_bytes=[18 * GB])
    assert lines[0] == "Other programs use 5.0 of the 24.0 GB: close them."
    assert advice(None, CARD, own_bytes=[18 * GB])[0] == lines[0]


def test_each_card_of_a_split_model_is_looked_at() -> None:
    cards = Machine("two cards", gpu_bytes=24 * GB, free_gpu_bytes=1 * GB, others=(Room("a card", 24 * GB, 2 * GB),))
    plan = make_plan(replace(PLAN.inputs, cards=(24 * GB, 24 * GB)))
    lines = advice(plan, cards, own_bytes=[22 * GB, 12 * GB])
    assert lines[0] == "Other programs use 10.0 of the 24.0 GB of GPU 1: close them."
    assert re.match(r"The plan predicted at most [\d.]+ \+ [\d.]+ GB, and the cards have 24.0 \+ 24.0 GB.", lines[1])


def test_a_run_that_fills_the_card_says_so_and_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict, calls = Flux2Model.get_noise_prediction, 0

    def fill(*arguments: object, **options: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return predict(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Flux2Model, "get_noise_prediction", fill)
    assert run_job(write_job(tmp_path)).status == "failed"
    said = capsys.readouterr().err
    assert (
        "memory: the card is full, in stage train. Now for the second time in step 5, with 2 images of 32 x 32: "
        in said
    )
    assert "CUDA out of memory. Tried to allocate 2.00 GiB.\n" in said
    assert "checkpoint of step 3 is intact" in said and "Traceback" not in said
    bundle, _ = newest_bundle(tmp_path / "output" / "job", is_thorough=True)
    assert bundle is not None and bundle.step == 3
