"""The memory plan against what was measured on a card; the figures stand in benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.step import job_of, predicted_bytes
from benchmarks.step_cells import CELLS

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
STEPS: dict[str, Any] = json.loads((RESULTS / "step-h100.json").read_text(encoding="utf-8"))["cells"]
RUNS: dict[str, Any] = json.loads((RESULTS / "whole_run-h100.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_took_what_is_planned_or_a_little_less(name: str, tmp_path: Path) -> None:
    # It was measured when all blocks had autograd's backward pass.
    planned = predicted_bytes(CELLS[name], job_of(CELLS[name], tmp_path), backwards=("autograd",))
    measured = STEPS[name]["ours"]["peak_allocated_bytes"]
    # Without recomputing, the torch of that machine kept norms in bf16; the one in requirements.txt keeps them in fp32.
    most = 1.12 if "keep" in name else 1.07
    assert 1.0 <= planned / measured <= most


@pytest.mark.parametrize("name", RUNS)
def test_each_stage_of_a_run_took_what_is_planned(name: str) -> None:
    for stage, figures in RUNS[name]["stages"].items():
        assert figures["predicted_gpu_bytes"] / figures["peak_gpu_bytes"] == pytest.approx(1, abs=0.035), stage
