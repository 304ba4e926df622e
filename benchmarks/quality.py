"""What settings do to what a LoRA learns and forgets, on the tiny FLUX.2: `python -m benchmarks.quality --out FILE`.

Each row is a task and settings, trained with several seeds and scored by pixel rules on held-out prompts: the share
that shows what was taught, and the share of ordinary prompts that are still drawn correctly. Rows that the file already
has are not run again, so that a stopped run goes on where it was. An hour or two on one core for all rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from diffusers import Flux2KleinPipeline

from benchmarks.quality_tasks import MODEL, ORDINARY, ROOT, TASKS, Settings, preservation
from benchmarks.setting import setting
from scripts.flux2_tiny.draw import load_pipeline
from toolkit.files import write_json

NUM_PROMPTS = 24
# Student's t: half the width of a 95 % interval in standard errors, by number of seeds.
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


@dataclass(frozen=True)
class Row:
    """Settings to compare.

    Attributes:
        task: a key of `TASKS`.
        name: the settings in words.
        settings: by section, over those of every row; `dataset` holds those of the task's own dataset.
        regularization: settings of the set of ordinary images; None to train without it.
    """

    task: str
    name: str
    settings: Settings = field(default_factory=dict)
    regularization: Settings | None = None

    @property
    def key(self) -> str:
        """The name of the row in the results."""
        return f"{self.task}: {self.name}"


def _train(**settings: Any) -> Settings:
    return {"train": settings}


PLAIN = "plain"
ROWS = (
    Row("object", PLAIN),
    Row("object", "regularisation set", regularization={}),
    Row("object", "regularisation set as the base predicts", regularization={"prior_reg": True}),
    Row("object", "blank prompt preserved", _train(blank_prompt_preservation=True)),
    Row(
        "object",
        "class preserved",
        _train(diff_output_preservation=True, diff_output_preservation_class="medium red circle"),
    ),
    Row("object", "guidance-aware", _train(do_guidance_loss=True)),
    Row("object", "differential guidance", _train(do_differential_guidance=True)),
    Row("object", "noise: sigmoid, balanced", _train(content_or_style="balanced")),
    Row("object", "noise: linear", _train(timestep_type="linear", content_or_style="balanced")),
    Row("object", "noise: weighted", _train(timestep_type="weighted", content_or_style="balanced")),
    Row("object", "noise: style", _train(content_or_style="style")),
    Row("object", "distance: mae", _train(loss_type="mae")),
    Row("style", PLAIN),
    Row("style", "regularisation set", regularization={}),
    Row("style", "blank prompt preserved", _train(blank_prompt_preservation=True)),
    Row("style", "class preserved", _train(diff_output_preservation=True)),
    Row("masked", "without the mask", {"dataset": {"mask_path": None}}),
    Row("masked", "mask"),
    Row("masked", "mask, the rest as the base", _train(inverted_mask_prior=True)),
    Row("edit", PLAIN),
    Row("edit", "noise: linear", _train(timestep_type="linear", content_or_style="balanced")),
    Row("edit", "blank prompt preserved", _train(blank_prompt_preservation=True)),
)


@dataclass(frozen=True)
class Score:
    """What one training run came to.

    Attributes:
        concept: share of held-out prompts that show what was taught.
        kept: share of ordinary prompts drawn correctly.
        train_s: duration of the run, start-up included.
    """

    concept: float
    kept: float
    train_s: float


def run_row(row: Row, *, seed: int, share: float, pipeline: Flux2KleinPipeline) -> Score:
    """Train with a seed, and score what came of it. Training that fails raises `CalledProcessError`."""
    with tempfile.TemporaryDirectory() as folder:
        job_file = _write_job(row, seed=seed, share=share, folder=Path(folder))
        begin = time.monotonic()
        command = [sys.executable, str(ROOT / "run.py"), str(job_file)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        train_s = time.monotonic() - begin
        pipeline.load_lora_weights(str(Path(folder) / "output" / "case"), weight_name="case.safetensors")
    try:
        concept = TASKS[row.task].score(pipeline, NUM_PROMPTS)
        return Score(round(concept, 4), round(preservation(pipeline, NUM_PROMPTS), 4), round(train_s, 1))
    finally:
        pipeline.unload_lora_weights()


def _write_job(row: Row, *, seed: int, share: float, folder: Path) -> Path:
    task = TASKS[row.task]
    task.write(folder / "pictures")
    (own,) = task.datasets(folder / "pictures")
    own = own | row.settings.get("dataset", {})
    shared = {"resolution": 128, "caption_dropout_rate": 0.05}
    datasets = [{key: value for key, value in (own | shared).items() if value is not None}]
    if row.regularization is not None:
        datasets.append({"folder_path": str(ORDINARY), "resolution": 128, "is_reg": True, **row.regularization})
    process = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "trigger_word": "zorbo",
        "training_seed": seed,
        "model": {"arch": "flux2_tiny", "name_or_path": str(MODEL)},
        "network": {"type": "lora", "linear": 32, "linear_alpha": 32, "transformer_only": False},
        "datasets": datasets,
        "train": {
            "steps": max(1, round(share * task.steps)),
            "batch_size": 8,
            "lr": 2e-3,
            "lr_scheduler": "cosine",
            "optimizer": "adamw",
            "timestep_type": "sigmoid",
            "content_or_style": "content",
            "dtype": "bf16",
            "gradient_checkpointing": False,
            "disable_sampling": True,
        },
    }
    for section in ("train", "network", "model"):
        process[section] = process[section] | row.settings.get(section, {})
    job_file = folder / "case.yaml"
    text = yaml.safe_dump({"job": "extension", "config": {"name": "case", "process": [process]}})
    job_file.write_text(text, encoding="utf-8")
    return job_file


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds; infinite for a single seed."""
    if len(values) < 2:
        return statistics.mean(values), float("inf")
    return statistics.mean(values), T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def main() -> None:
    """Run the rows that are missing, and write each result at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results, which may hold some")
    parser.add_argument("--rows", nargs="*", default=[""], help="only rows whose name contains one of these texts")
    parser.add_argument("--seeds", type=int, default=5, help="training runs of each row, 1 to 10")
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, for a look")
    options = parser.parse_args()
    pipeline = load_pipeline(MODEL)
    found: dict[str, Any] = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found = {**setting(on_card=False), "prompts": NUM_PROMPTS, "share": options.share, "base": {}, "rows": {}, **found}
    if found["share"] != options.share:
        parser.error(f"{options.out} has results with --share {found['share']}")
    for name, task in TASKS.items():
        if name not in found["base"]:
            found["base"][name] = {
                "concept": task.score(pipeline, NUM_PROMPTS),
                "kept": preservation(pipeline, NUM_PROMPTS),
            }
            write_json(options.out, found)
    rows = [row for row in ROWS if any(text in row.key for text in options.rows)]
    for seed in range(1, options.seeds + 1):
        for row in rows:
            scores = found["rows"].setdefault(row.key, {})
            if str(seed) not in scores:
                score = run_row(row, seed=seed, share=options.share, pipeline=pipeline)
                scores[str(seed)] = asdict(score)
                write_json(options.out, found)
                print(row.key, seed, score, flush=True)
    for row in rows:
        columns = {
            key: interval([score[key] for score in found["rows"][row.key].values()]) for key in ("concept", "kept")
        }
        print(f"{row.key:50}", *(f"{key} {mean:.2f} +- {half:.2f}" for key, (mean, half) in columns.items()))


if __name__ == "__main__":
    main()
