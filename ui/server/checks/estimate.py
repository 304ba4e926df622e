"""How long a run will take: by earlier runs on this machine, else computed. Always a range, and on what it rests."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from toolkit.cards import ModelCard
from toolkit.config import load_job
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import UserError
from ui.server.checks.checker import CheckResult
from ui.server.checks.drawn_before import pace_of
from ui.server.jobs.folders import stamp
from ui.server.jobs.job import CONFIG_FILE, Job
from ui.server.schemas import Estimate

# Peak of dense bf16 products, FLOP/s, by a piece of the card's name; of two that fit the longer one counts.
_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 6000 Ada": 364e12,
    "RTX PRO 6000": 500e12,
    "RTX 5090": 210e12,
    "RTX 5080": 113e12,
    "RTX 4090": 165e12,
    "RTX 4080": 97e12,
    "RTX 3090": 71e12,
    "RTX 3080": 60e12,
    "A6000": 155e12,
    "T4": 65e12,
}
_OTHER_CARD = 80e12
_PER_CORE = 30e9
_SHARE = (0.5, 0.25)  # of its peak that a card reaches: at best, at worst
_MOST_RUNS = 20


def estimate(found: CheckResult, jobs: Iterable[Job]) -> Estimate | None:
    """How long the run of a job will take; None if nothing can be said.

    Args:
        found: by its check.
        jobs: all jobs here, with what their steps have taken.
    """
    if found.config is None or not found.facts["ok"]:
        return None
    process = found.config.config.process[0]
    facts = found.facts["processes"][0]
    if isinstance(process, GenerateProcessConfig):
        return _drawing(process, facts, jobs)
    if not isinstance(process, TrainingProcessConfig):
        return None
    steps = max(0, process.train.steps - int((facts.get("resume") or {}).get("step", 0)))
    px = _px(facts)
    work = px * process.train.batch_size * process.train.gradient_accumulation
    measured = _measured(process, work, _on_device(jobs, facts.get("memory")))
    if measured:
        middle = statistics.median(measured)
        runs = "1 run" if len(measured) == 1 else f"{len(measured)} runs"
        low, high = min(*measured, middle * 0.9), max(*measured, middle * 1.1)
        return Estimate(low_s=steps * low, high_s=steps * high * 1.1, basis=f"based on {runs} here")
    card, memory = process.card, facts.get("memory")
    if card is None or card.size is None or memory is None:
        return None
    flops = _step_flops(process, card, px) * process.train.batch_size * process.train.gradient_accumulation
    peak = _peak(memory)
    samples = _sample_flops(process, card)
    low, high = ((steps * flops + samples) / (peak * share) for share in _SHARE)
    return Estimate(low_s=low, high_s=high * 1.2, basis="calculated")


def _drawing(process: GenerateProcessConfig, facts: Mapping[str, Any], jobs: Iterable[Job]) -> Estimate | None:
    """How long the pictures take that are not there yet; computed, without loading the model."""
    card, memory = process.card, facts.get("memory")
    if memory is not None and facts.get("pictures_left") and (pace := pace_of(process, jobs, memory["device_name"])):
        low, high = pace.range_s(int(facts["pictures_left"]))
        drawings = "1 drawing" if pace.num_runs == 1 else f"{pace.num_runs} drawings"
        return Estimate(low_s=low, high_s=high, basis=f"based on {drawings} here, including loading")
    if card is None or card.size is None or memory is None or not facts.get("pictures"):
        return None
    items = process.generate.items(process.trigger_word)
    tokens = sum(_tokens(card, item.width * item.height) * item.sample_steps for item in items) / len(items)
    flops = 2.0 * card.size.transformer.parameters * tokens * int(facts["pictures_left"])
    low, high = (flops / (_peak(memory) * share) for share in _SHARE)
    passes = 2 if "true_cfg" in card.capabilities else 1
    return Estimate(low_s=low, high_s=high * 1.2 * passes, basis="calculated, after loading the model")


def _on_device(jobs: Iterable[Job], memory: Mapping[str, Any] | None) -> Iterable[Job]:
    """The jobs that ran last on the device that this one is planned for; all if that is not known."""
    if memory is None:
        return jobs
    device = memory["device_name"]
    return (
        job
        for job in jobs
        if next((run.resumed["device"] for run in reversed(job.runs) if run.resumed.get("device")), None) == device
    )


def _measured(process: TrainingProcessConfig, work: float, jobs: Iterable[Job]) -> list[float]:
    """Seconds a step of runs like this one took here, scaled to its pixels."""
    found: list[float] = []
    alike = [job for job in jobs if job.summary.step_s is not None and job.summary.arch == process.model.arch]
    for job in alike[:_MOST_RUNS]:
        step_s = job.summary.step_s or 0.0
        facts = _facts_of(job.folder / CONFIG_FILE, stamp(job.folder / CONFIG_FILE))
        if facts is None or facts.get("kind") != _kind(process):
            continue
        other = float(facts["work"])
        if other > 0 and 0.2 <= work / other <= 5:
            found.append(step_s * work / other)
    return found


@functools.lru_cache(maxsize=256)
def _facts_of(path: Path, changed: Any) -> dict[str, Any] | None:
    """Of another run: what makes its steps long, from the settings that it was started with."""
    try:
        process = load_job(path).config.process[0]
    except (UserError, OSError):
        return None
    if not isinstance(process, TrainingProcessConfig):
        return None
    px = max(max(dataset.resolution) for dataset in process.datasets) ** 2
    return {"kind": _kind(process), "work": px * process.train.batch_size * process.train.gradient_accumulation}


def _kind(process: TrainingProcessConfig) -> str:
    """What else must be equal for two runs to be as fast as each other."""
    model, train = process.model, process.train
    rank = process.network.linear if process.network else None
    parts = [model.quantize, model.qtype, model.layer_offloading, train.gradient_checkpointing, rank, train.dtype]
    return json.dumps(parts, default=str)


def _px(facts: Mapping[str, Any]) -> float:
    """Pixels of the mean example, references left out."""
    total = count = 0
    for table in facts.get("datasets") or ():
        for bucket in table["buckets"]:
            total += bucket["width"] * bucket["height"] * bucket["examples"]
            count += bucket["examples"]
    return total / count if count else 0.0


def _tokens(card: ModelCard, px: float) -> float:
    assert card.size is not None
    return px / card.size.transformer.px_per_token + card.prompt_embeds_shape[0]


def _step_flops(process: TrainingProcessConfig, card: ModelCard, px: float) -> float:
    """Two for each weight and token forward, as much for the gradients of activations, of weights, and of a repeat."""
    assert card.size is not None
    per_weight = 4 + (2 if process.network is None else 0) + (2 if process.train.gradient_checkpointing else 0)
    return per_weight * card.size.transformer.parameters * _tokens(card, px)


def _sample_flops(process: TrainingProcessConfig, card: ModelCard) -> float:
    assert card.size is not None
    if process.train.disable_sampling:
        return 0.0
    sample = process.sample
    rounds = 1 + (process.train.steps // sample.sample_every if sample.sample_every else 0)
    items = sample.items(process.trigger_word)
    tokens = sum(_tokens(card, item.width * item.height) * item.sample_steps for item in items)
    return 2.0 * card.size.transformer.parameters * tokens * rounds


def _peak(memory: Mapping[str, Any]) -> float:
    if memory["device"] == "cpu":
        return (psutil.cpu_count(logical=False) or 1) * _PER_CORE
    name = str(memory["machine"]["name"])
    fitting = [piece for piece in _PEAKS if piece in name]
    return _PEAKS[max(fitting, key=len)] if fitting else _OTHER_CARD
