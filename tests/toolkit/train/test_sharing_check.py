"""What ranks cannot share is refused before anything is loaded, with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import write_job
from toolkit.cards import find_cards
from toolkit.config import TrainConfig, load_job
from toolkit.errors import JobError
from toolkit.plan.needs import Needs
from toolkit.train.sharing_check import describe_sharing, sharing_problems

SQUARE = ((128, 128),)  # 64 tokens


def _problems(size: int, *, arch: str = "flux2_tiny", world: int = 1, trained: Any = (SQUARE,)) -> str:
    train = TrainConfig.model_validate({"context_parallel": size})
    problems = sharing_problems(train, find_cards()[arch], Needs(trained=trained), world)
    return "\n".join(map(str, problems))


def test_a_sequence_that_can_be_shared_is() -> None:
    assert _problems(2, world=4) == ""
    assert _problems(1, arch="flux") == ""
    assert _problems(2, arch="flux", world=2) == ""
    assert _problems(8, arch="flux2", world=8, trained=(((1024, 1024),),)) == ""


@pytest.mark.parametrize(
    ("size", "options", "what"),
    [
        (2, {"arch": "flux2_klein_9b_kv"}, "cannot share a sequence of"),
        (4, {}, "4 does not divide the 6 attention heads .*; 2, 3, 6 do"),
        (2, {"world": 3}, "3 ranks cannot be grouped by 2. Start a multiple of 2"),
        (2, {"trained": (SQUARE, ((48, 48),))}, "48 x 48 pixels has 9 tokens, .* multiples of 32 pixels"),
        (2, {"trained": (((64, 64), (48, 48)),)}, "64 x 64 pixels with its references has 25 tokens"),
        (2, {"trained": (((48, 48), (48, 48)),)}, "48 x 48 pixels has 9 tokens"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_a_way_out(size: int, options: dict[str, Any], what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        raise AssertionError(_problems(size, **options))


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"train": {"sharding": "full"}, "model": {"layer_offloading": True}}, "both move the transformer's blocks"),
        ({"train": {"context_parallel": 2}, "adapter": {"type": "control_lora"}}, "`adapter.type: control_lora` must"),
        ({"train": {"sharding": "half"}}, "sharding"),
    ],
)
def test_settings_that_contradict_sharing_are_refused(sections: dict[str, Any], what: str, tmp_path: Path) -> None:
    sections = {**sections, "train": {"dtype": "fp32", **sections["train"]}}
    with pytest.raises(JobError, match=what):
        load_job(write_job(tmp_path, **sections))


def test_streaming_the_text_encoder_goes_with_sharding(tmp_path: Path) -> None:
    model = {"layer_offloading": True, "layer_offloading_transformer_percent": 0}
    load_job(write_job(tmp_path, train={"sharding": "full"}, model=model))


@pytest.mark.parametrize("settings", [{"sharding": "full"}, {"context_parallel": 2}])
def test_what_a_single_process_does_not_share_gets_a_word(settings: dict[str, Any]) -> None:
    train = TrainConfig.model_validate(settings)
    (alone,), (together,) = (list(describe_sharing(train, world)) for world in (1, 2))
    assert "has no effect in a single process" in alone
    assert "warning" not in together
