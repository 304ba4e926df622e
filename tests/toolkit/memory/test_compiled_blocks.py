"""Blocks that are compiled one by one, streamed and recomputed, with LoRA in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tests.toolkit.memory.late_stream import LateStream
from tests.toolkit.memory.test_layer_offload import QuantizedSetup, Setup, _equal
from tests.toolkit.memory.test_side_stream import _one_step
from toolkit.memory.layer_offload import LayerOffload


@pytest.fixture(autouse=True)
def _no_compiled_code_is_left() -> Iterator[None]:
    yield
    torch.compiler.reset()


def _two_compiled_steps(kind: type[Setup], share: float, *, checkpointing: bool) -> tuple[list[Tensor], int]:
    """What they give, and how many graphs were compiled."""
    torch.compiler.reset()
    counters.clear()
    setup = kind(share, checkpointing=checkpointing, kind=LayerOffload)
    setup.offload._stream = LateStream("late")
    for block in setup.blocks:
        block.compile(backend="aot_eager")
    results = [*_one_step(setup), *_one_step(setup)]
    assert not counters["graph_break"]
    return results, counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(
    ("kind", "checkpointing"),
    [
        pytest.param(Setup, True, id="plain recomputed", marks=pytest.mark.torture),
        pytest.param(QuantizedSetup, False, id="quantized kept"),
    ],
)
def test_compiled_blocks_learn_the_same_streamed_or_not(kind: type[Setup], checkpointing: bool) -> None:
    resident, num_graphs = _two_compiled_steps(kind, 0, checkpointing=checkpointing)
    streamed, num_graphs_of_streamed = _two_compiled_steps(kind, 1, checkpointing=checkpointing)
    assert _equal(streamed, resident)
    assert num_graphs_of_streamed == num_graphs > 0, "blocks of a kind share their code, wherever their weights are"
