"""The code in docs/adapters.md does what the trainer does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from tests.tiny import ROOT
from tests.toolkit.adapters.test_token_adapters import Setup
from toolkit.adapters.files import write_adapter
from toolkit.models.condition import Condition


def _example() -> dict[str, Any]:
    text = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if "def use_ip_adapter" in block:
            exec(block, found)
    return found


def test_the_example_predicts_what_the_trainer_predicts(tmp_path: Path) -> None:
    ours, theirs = Setup("ip"), Setup("ip", start=True)
    path = tmp_path / "job.safetensors"
    write_adapter(path, ours.adapter, dtype=torch.float32, metadata={})
    transformer = theirs.model.transformer
    _example()["use_ip_adapter"](transformer, path, ours.view[:1], num_noisy=6, num_text=48)
    ours.view = ours.view[:1].expand(2, -1, -1)

    def predict() -> torch.Tensor:
        return theirs.model.get_noise_prediction(theirs.latents, theirs.timestep, Condition(theirs.embeds))

    with torch.no_grad():
        with transformer.cache_context("cond"):
            assert (predict() - ours.predict(ours.view)).abs().max() < 1e-5
        with transformer.cache_context("uncond"):
            assert torch.equal(predict(), ours.predict(None))
