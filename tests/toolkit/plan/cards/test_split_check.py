"""What a check says of a model that is to be split over cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.job import Job
from tests.tiny import write_job
from tests.toolkit.parallel.fake_ranks import run_ranks
from toolkit.config import load_job
from toolkit.errors import JobError
from toolkit.runtime.device_probe import Card

SPLIT = {"split_model_over_gpus": True}


def _problems(folder: Path, **options: Any) -> list[str]:
    sections = {"device": "auto", **options.pop("sections", {})}
    model = {**SPLIT, **sections.pop("model", {})}
    try:
        job = load_job(write_job(folder, **{**sections, "model": model}))
    except JobError as error:
        return [str(problem) for problem in error.problems]
    (checked,) = Job(job, **options).checks()
    return [str(problem) for problem in checked.problems]


def _cards(patch: pytest.MonkeyPatch, *sizes_gb: int) -> None:
    """This machine has such cards."""
    cards = tuple(
        Card(f"GPU-{index}", f"card {size}", size * 10**9, size * 10**9) for index, size in enumerate(sizes_gb)
    )
    for module in ("toolkit.runtime.device_probe", "toolkit.plan.machine"):
        patch.setattr(f"{module}.probe_cards", lambda: cards)


def test_two_cards_are_planned_one_by_one_in_text_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 24, 16)
    job = Job(load_job(write_job(tmp_path, device="cuda", model=SPLIT)))
    (checked,) = job.checks()
    assert not checked.problems
    text = "\n".join(checked.lines)
    assert "GPU 0  GPU 1" in text and "card 24 + card 16" in text and "split over GPUs: 6 blocks" in text
    facts = json.loads(json.dumps(checked.facts()))["memory"]
    assert sum(facts["split"]) == 6 and len(facts["card_peaks"]) == 2
    assert all(len(phase["card_bytes"]) == 2 for phase in facts["phases"])
    assert facts["machine"]["others"] == [{"name": "card 16", "gpu_bytes": 16 * 10**9, "free_gpu_bytes": 16 * 10**9}]


def test_a_plan_for_cards_elsewhere_has_two_of_them(tmp_path: Path) -> None:
    (checked,) = Job(load_job(write_job(tmp_path, device="cuda", model=SPLIT)), vram_gb=24).checks()
    assert not checked.problems and "2 cards of 24 GB" in "\n".join(checked.lines)


def test_one_card_or_none_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 24)
    (problem,) = _problems(tmp_path)
    assert (
        problem.startswith("model.split_model_over_gpus: the job sees one GPU only") and "CUDA_VISIBLE_DEV" in problem
    )
    _cards(monkeypatch)
    (problem,) = _problems(tmp_path)
    assert "no GPU that torch can use. Remove the key" in problem and "--check --vram 24" in problem


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 24, 24)
    found = run_ranks(2, lambda ranks: _problems(tmp_path / str(ranks.rank), ranks=ranks))
    assert all("this run has 2 processes" in problem and "python run.py" in problem for (problem,) in found)


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"device": "cuda:1"}, "`device: cuda:1` is one device: set `device: cuda`"),
        ({"device": "cpu"}, "`device: cpu` is one device"),
        ({"model": {"layer_offloading": True}}, "keep one of them, or set `layer_offloading_transformer_percent: 0`"),
        ({"train": {"sharding": "full"}}, "`train.sharding: full` needs a process for each: remove one of the two"),
        ({"train": {"context_parallel": 2}}, "`train.context_parallel` needs a process for each: remove one"),
    ],
    ids=str,
)
def test_what_does_not_go_with_it_is_refused_with_a_way_out(
    sections: dict[str, Any], what: str, tmp_path: Path
) -> None:
    (problem,) = _problems(tmp_path, sections=sections)
    assert what in problem


def test_the_text_encoder_may_be_streamed(tmp_path: Path) -> None:
    model = {"layer_offloading": True, "layer_offloading_transformer_percent": 0}
    assert _problems(tmp_path, sections={"model": model, "device": "cuda"}, vram_gb=24) == []
