"""Tensors whose rows are in several files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from toolkit.parallel.weight_layout import rows_of
from toolkit.weights.row_files import RowFiles
from toolkit.weights.tensor_files import write_tensors


@pytest.mark.parametrize("written_by", [1, 2, 4, 8])
@pytest.mark.parametrize("read_by", [1, 3, 4])
def test_any_number_of_processes_reads_what_any_number_has_written(
    written_by: int, read_by: int, tmp_path: Path
) -> None:
    whole = {"weight": torch.randn(6, 3), "bias": torch.arange(6, dtype=torch.uint8)}
    paths = [tmp_path / f"{position}.safetensors" for position in range(written_by)]
    for position, path in enumerate(paths):  # with eight, the last have no rows
        write_tensors(path, {name: tensor[rows_of(6, position, written_by)] for name, tensor in whole.items()})
    files = RowFiles(paths)
    assert sorted(files) == sorted(whole)
    for name, tensor in whole.items():
        assert files.num_rows(name) == 6
        parts = [files.read(name, rows_of(6, position, read_by)) for position in range(read_by)]
        assert torch.equal(torch.cat(parts), tensor)
