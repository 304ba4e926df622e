"""What `make bench-gpu` would measure on a card."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.step import job_of
from benchmarks.step_cells import CELLS
from toolkit.compute.machine import mistake_of


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_a_job_that_can_be_read(name: str, tmp_path: Path) -> None:
    cell = CELLS[name]
    config = job_of(cell, tmp_path)
    assert config.network is not None and config.network.linear == cell.rank
    assert mistake_of(config.model.compute, quantize=config.model.quantize, qtype=config.model.qtype) is None


@pytest.mark.parametrize(
    ("card", "folder"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla T4", "t4"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000"),
    ],
)
def test_a_card_has_a_folder(card: str, folder: str) -> None:
    assert gpu.folder_name(card) == folder


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 1
    assert "torch sees none here" in capsys.readouterr().err
