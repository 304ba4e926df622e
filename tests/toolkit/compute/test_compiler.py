"""toolkit.compute.compiler"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.compute.compiler import Compiler


def test_from_the_first_function_that_cannot_be_compiled_on_all_run_as_written() -> None:
    said: list[str] = []
    compiler = Compiler(notify=said.append, warn=said.append, backend="eager")
    seen: list[str] = []

    def written(x: Tensor) -> Tensor:
        seen.append("written")
        return x + 1

    good = compiler.compiled(lambda x: x + 1, written)
    bad = compiler.compiled(lambda x: x + 1 if x.sum() > 0 else x, written)
    x = torch.ones(1, 3, 4)
    assert torch.equal(good(x), x + 1)
    assert not seen
    assert not said
    assert torch.equal(bad(x), x + 1)
    assert torch.equal(good(x), x + 1)
    assert seen == ["written", "written"]
    assert len(said) == 1
    assert said[0].startswith("model.compile: compiling failed, so the run goes on without it")
