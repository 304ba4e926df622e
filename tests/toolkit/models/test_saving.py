"""toolkit.models.saving"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.live_bytes import LiveBytes
from tests.tiny import saved_state, tiny_model
from toolkit.models.saving import save_transformer
from toolkit.weights.tensor_files import num_bytes, read_tensors


@pytest.mark.parametrize("save_format", ["safetensors", "diffusers"])
def test_weights_are_cast_and_joined_one_by_one(save_format: str, tmp_path: Path) -> None:
    """Never a second copy of the model: a weight as the file has it, joined from several, and cast."""
    model = tiny_model("transformer")
    with LiveBytes() as live:
        weights = {name: tensor.detach() for name, tensor in model.transformer.state_dict().items()}
        before = live.now
        save_transformer(model, tmp_path / "model", save_format=save_format, dtype=torch.bfloat16, metadata={})
        assert live.now == before
    largest = max(tensor.numel() for tensor in saved_state(model).values())
    assert live.peak - before <= largest * (4 + 2) < num_bytes(weights) / 5


def test_the_file_has_the_weights(tmp_path: Path) -> None:
    model = tiny_model("transformer")
    (path,) = save_transformer(
        model, tmp_path / "model", save_format="safetensors", dtype=torch.bfloat16, metadata={"format": "pt"}
    )
    found, wanted = read_tensors(path), saved_state(model)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in wanted.items())
