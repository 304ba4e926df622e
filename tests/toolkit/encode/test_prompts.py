"""toolkit.encode.prompts"""

from __future__ import annotations

from pathlib import Path

from tests.tiny import tiny_model
from toolkit.encode.encodings import Encodings
from toolkit.encode.prompts import PromptEncoder


def test_equal_captions_are_encoded_and_kept_once_and_a_long_one_is_reported_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    model, encodings = tiny_model(), Encodings(warnings.append, overflow=tmp_path / "overflow")
    fingerprint = model.fingerprint("text_encoder")
    prompts = PromptEncoder(model, encodings, fingerprint=fingerprint, warn=warnings.append)
    long = "a red circle " * 20
    texts = ["a red circle", long, "a red circle", long]
    assert sum(prompts.add(text, folder=tmp_path / "cache") for text in texts) == 2
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    assert not any(prompts.add(text, folder=None) for text in texts)
    assert len(warnings) == 1
    assert "it is cut between" in warnings[0]
    assert prompts[long].shape == (48, 192)
