"""toolkit.encode.prompts"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    encodings.settle()
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    assert not any(prompts.add(text, folder=None) for text in texts)
    assert len(warnings) == 1
    assert "it is cut between" in warnings[0]
    assert prompts[long].shape == (48, 192)


def test_the_text_encoder_runs_once_for_each_distinct_text_and_never_for_what_is_cached(tmp_path: Path) -> None:
    texts = ["a red circle", "", "a red circle", "a blue square", ""]
    for expected in (3, 0):
        seen: list[Sequence[int]] = []
        model = tiny_model("text_encoder")
        model.text_encoder.register_forward_pre_hook(_noting(seen), with_kwargs=True)
        encodings = Encodings(print, overflow=tmp_path / "overflow")
        prompts = PromptEncoder(model, encodings, fingerprint=model.fingerprint("text_encoder"), warn=print)
        for text in texts:
            prompts.add(text, folder=tmp_path / "cache")
        assert seen == [(1, 48)] * expected


def _noting(seen: list[Sequence[int]]) -> Any:
    """A hook that notes the shape of what an encoder reads."""
    return lambda module, arguments, named: seen.append(tuple(named["input_ids"].shape))


def test_a_cached_prompt_tells_where_it_is_cut_without_a_tokenizer(tmp_path: Path) -> None:
    long, found = "  a red circle " * 20, []
    for load in (True, False):
        warnings: list[str] = []
        model, encodings = tiny_model(), Encodings(warnings.append, overflow=tmp_path / "overflow")
        fingerprint = model.fingerprint("text_encoder")
        prompts = PromptEncoder(model, encodings, fingerprint=fingerprint, warn=warnings.append)
        assert [prompts.add(text, folder=tmp_path / "cache") for text in ("a red circle", long)] == [load, load]
        encodings.settle()
        assert (model.tokenizer is not None) == load
        found.append(warnings)
    assert found[0] == found[1]
    assert len(found[0]) == 1
