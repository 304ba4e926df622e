"""extensions_built_in.generator.own_loras: LoRA files of this trainer are judged without reading their layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from extensions_built_in.generator import lora_check
from extensions_built_in.generator.own_loras import verified_weights
from tests.drawing import write_drawing, write_lora
from tests.tiny import tiny_model
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.loras import num_weights, read_for
from toolkit.errors import Mistakes
from toolkit.lora.files import write_lora_file
from toolkit.train.tasks.metadata import file_metadata


def _trained(path: Path, *, base_model: str = "flux2_tiny", **more: str) -> Path:
    """A LoRA file as a training writes it."""
    tensors = load_file(write_lora(path, seed=1))
    metadata = file_metadata(job_name="x", step=1, epoch=1, base_model=base_model, trigger_word=None, meta={})
    write_lora_file(path, tensors, metadata | more, check=lambda written: None)
    return path


def test_a_file_of_our_own_is_counted_by_its_header(tmp_path: Path) -> None:
    path, model = _trained(tmp_path / "ours.safetensors"), tiny_model()
    assert verified_weights(path, arch="flux2_tiny") == num_weights(model, read_for(model, path), width=4)


def test_any_other_file_has_to_be_read(tmp_path: Path) -> None:
    ours = _trained(tmp_path / "ours.safetensors")
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(ours.read_bytes()[:-1] + b"\x7f")
    text = tmp_path / "text.safetensors"
    text.write_text("not a LoRA", encoding="utf-8")
    others = [
        write_lora(tmp_path / "nameless.safetensors", seed=1),
        _trained(tmp_path / "for_another.safetensors", base_model="flux2_klein_4b"),
        _trained(tmp_path / "foreign.safetensors", software='{"name": "another trainer"}'),
        changed,
        text,
        tmp_path / "absent.safetensors",
    ]
    assert [verified_weights(path, arch="flux2_tiny") for path in others] == [None] * len(others)


def test_only_files_of_other_programs_make_a_check_read_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*given: Any) -> dict[Path, int]:
        asked.append(list(given[2]))
        return dict.fromkeys(given[2], 0)

    asked: list[list[Path]] = []
    monkeypatch.setattr(lora_check, "_counted", read)
    ours, foreign = _trained(tmp_path / "ours.safetensors"), write_lora(tmp_path / "foreign.safetensors", seed=2)
    for files in ([ours], [ours, foreign]):
        loras = [{"path": str(path)} for path in files]
        (drawing,) = load_job(write_drawing(tmp_path, generate={}, loras=loras)).config.process
        assert isinstance(drawing, GenerateProcessConfig)
        num = lora_check.check_loras(drawing, find_cards()["flux2_tiny"], Mistakes())
        assert num == verified_weights(ours, arch="flux2_tiny")
    assert asked == [[foreign]]
