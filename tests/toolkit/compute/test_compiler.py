"""toolkit.compute.compiler"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny import write_job
from toolkit.compute.compiler import Compiler
from toolkit.config import load_job
from toolkit.errors import UserError
from toolkit.quantize.cache_folder import compiled_folder, trainer_cache


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
    assert said[0].startswith("model.compile: compiling failed, so the run continues without it")


def test_compiled_code_is_kept_beside_the_quantized_weights_unless_the_environment_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert compiled_folder(True) == trainer_cache() / "compiled"
    assert compiled_folder(tmp_path) == tmp_path / "compiled"
    assert compiled_folder(False) is None
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    Compiler(notify=print, warn=print, folder=tmp_path / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    Compiler(notify=print, warn=print, folder=tmp_path / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "mine")


def test_a_full_fine_tune_has_nothing_to_compile(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.compile.*a full fine-tune has none"):
        load_job(write_job(tmp_path, network=None, train={"full_finetune": True}, model={"compile": True}))
