"""Adapters on schnell, whose arch is that of dev, with and without its training adapter under them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from extensions_built_in.diffusion_models.flux.lora_names import write
from tests.contract.test_adapters import STARTS_OTHERWISE, Setup, normal
from tests.extensions_built_in.flux.test_lora_names import _updates
from tests.tiny_flux import tiny_flux
from toolkit.adapters.choices import ADAPTERS
from toolkit.weights.tensor_files import write_tensors

Sections = dict[str, dict[str, Any]]


@pytest.mark.parametrize("has_assistant", [False, True], ids=["alone", "under its training adapter"])
def test_on_schnell_adapters_begin_as_the_base_learn_and_can_be_off(
    sections: Sections, has_assistant: bool, tmp_path: Path
) -> None:
    options: dict[str, Any] = {}
    if has_assistant:
        updates = {name: update for name, update in _updates().items() if "norm1" not in name}
        path = tmp_path / "assistant.safetensors"
        write_tensors(path, write(updates, "diffusers"))
        options = {"assistant_lora_path": str(path)}
    for kind in sorted(ADAPTERS.keys() - STARTS_OTHERWISE):
        model = tiny_flux(sections["schnell"], "transformer", **options)
        setup = Setup(model, kind, normal(2, 16, 4, 4, seed=6), normal(2, 9, 32, seed=7))
        base, adapter = setup.predict(), setup.attach()
        assert torch.equal(setup.predict(adapter), base), kind
        setup.train(adapter)
        assert not torch.allclose(setup.predict(adapter), base, atol=1e-3), kind
        assert torch.equal(setup.predict(adapter, is_shown=False), base), kind
