"""What products in 8 bits do to the gradients of a LoRA on a small FLUX.2, also with rows that are 20 times larger."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.lora_gradients import lora_gradients
from tests.tiny import tiny_model
from toolkit.compute.use import use_compute
from toolkit.models.base_model import BaseModel
from toolkit.quantize.fill import quantize_layer

COMPUTE_OF = {"int8": "int8", "convrot8": "int8", "float8": "fp8"}
OUTLIERS, TIMES = 2, 20


def _model(qtype: str | None, *, outliers: int, is_trained: bool = False) -> BaseModel:
    """The tiny model, random or trained, with some rows of its block linears enlarged; fp32 without `qtype`."""
    model, generator = tiny_model("transformer"), torch.Generator().manual_seed(0)
    for name in model.get_quantizable_layers("transformer", model.transformer):
        weight = model.transformer.get_submodule(name).weight
        if not is_trained:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.02
        weight.data[torch.randperm(len(weight), generator=generator)[:outliers]] *= TIMES
        if qtype is not None:
            quantize_layer(model.transformer, name, qtype)
    if qtype is not None:
        assert use_compute(model.transformer, COMPUTE_OF[qtype]) > 0
    return model


def _gradients(model: BaseModel) -> Mapping[str, Tensor]:
    """The gradient of each adapter, A and B in one vector."""
    found: dict[str, list[Tensor]] = {}
    for name, gradient in lora_gradients(model, side=4).items():
        found.setdefault(name.partition(".lora_")[0], []).append(gradient.flatten())
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.parametrize("qtype", COMPUTE_OF)
@pytest.mark.parametrize("outliers", [0, OUTLIERS])
def test_every_gradient_points_where_it_does_in_fp32(qtype: str, outliers: int) -> None:
    exact, found = _gradients(_model(None, outliers=outliers)), _gradients(_model(qtype, outliers=outliers))
    _assert_alike(exact, found)


# If rows of the trained weights are enlarged, its attention jumps at the rounding of plain int8 (cosine 0.97).
@pytest.mark.parametrize(("qtype", "outliers"), [("int8", 0), ("convrot8", OUTLIERS)])
def test_so_does_every_gradient_of_the_trained_model(qtype: str, outliers: int) -> None:
    exact = _gradients(_model(None, outliers=outliers, is_trained=True))
    _assert_alike(exact, _gradients(_model(qtype, outliers=outliers, is_trained=True)))


def _assert_alike(exact: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    assert exact.keys() == found.keys()
    cosines = {name: float(cosine_similarity(exact[name], found[name], dim=0)) for name in exact}
    assert min(cosines.values()) >= 0.99, min(cosines.items(), key=lambda item: item[1])
