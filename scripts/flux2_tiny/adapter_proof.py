"""Prove what an adapter taught the tiny FLUX.2: draw held-out images with and without it, and count or measure.

    python -m scripts.flux2_tiny.adapter_proof output/flux2_tiny_ip

The job in the folder says what is to be proved. For an adapter that reads an image, every image is drawn three times
from the same noise: with the example's own input, with the adapter off, and with the input of another example. PASS:
the first score is high enough and the others are low enough for this kind of adapter, so it reads its input instead of
guessing. For an objective that learns to draw in few steps, PASS means that the result is closer than the base model's
to what the base model draws in many steps. Exit code 0 on PASS, 1 on FAIL, 2 if there is nothing to prove.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scripts.flux2_tiny.adapter_data import AdapterExample, held_out_examples
from scripts.flux2_tiny.adapters.mean_flow_proof import MeanFlowProof, prove_mean_flow
from scripts.flux2_tiny.adapters.tasks import TASKS, Task
from scripts.flux2_tiny.adapters.trained_job import TrainedJob, finished_job, load_trained_job
from scripts.flux2_tiny.grid import Row, picture_grid
from scripts.flux2_tiny.proof import NUM_SHOWN, SEED, proof_parser, run_proof
from toolkit.errors import UserError
from toolkit.files import whole_file
from toolkit.objectives.choices import OBJECTIVES

Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class AdapterProof:
    """Mean scores, 0..1, of held-out images.

    Attributes:
        type: kind of adapter, a key of `TASKS`.
        num_pictures: number of images drawn for each score.
        shown: score with the example's own input.
        off: score with the adapter off.
        wrong: score with the input of another example; None for an adapter without inputs.
    """

    type: str
    num_pictures: int
    shown: float
    off: float
    wrong: float | None

    @property
    def task(self) -> Task:
        """What is asked of this kind of adapter."""
        return TASKS[self.type]

    @property
    def passed(self) -> bool:
        """Whether the adapter does its work, and only with the right input."""
        return self.shown >= self.task.least and max(self.off, self.wrong or 0) <= self.task.most

    def report(self) -> str:
        """The proof as a small table with a verdict."""
        task, own = self.task, "trained" if self.wrong is None else "with its own input"
        lines = [
            f"{f'{self.type}: {self.num_pictures} held-out images, {task.measures}':64}        required",
            f"{own:64}{self.shown:7.0%}   >= {task.least:.0%}",
            f"{task.off:64}{self.off:7.0%}   <= {task.most:.0%}",
        ]
        if self.wrong is not None:
            lines.append(f"{'with the input of another image':64}{self.wrong:7.0%}   <= {task.most:.0%}")
        return "\n".join([*lines, "PASS" if self.passed else "FAIL"])


def prove(folder: Path, *, num_pictures: int, grid: Path) -> AdapterProof | MeanFlowProof:
    """Prove what the job in an output folder has trained, and write some of the images to `grid`.

    Raises:
        UserError: it is not the folder of a finished job, or there is no proof for what the job trains.
    """
    job = finished_job(folder)
    if OBJECTIVES[job.training().train.objective].has_steps:
        return prove_mean_flow(job, folder, num_prompts=num_pictures, grid=grid)
    return prove_adapter(load_trained_job(job, folder), num_pictures=num_pictures, grid=grid)


def prove_adapter(job: TrainedJob, *, num_pictures: int, grid: Path) -> AdapterProof:
    """Draw held-out examples in each way, score them, and write some to `grid`.

    Raises:
        UserError: there is no proof for this kind of adapter.
    """
    kind = job.adapter.type
    if kind not in TASKS:
        raise UserError(f"adapter.type: there is no proof for `{kind}`. Known: {', '.join(TASKS)}")
    task = TASKS[kind]
    examples = held_out_examples(task.toy, num_pictures, seed=SEED)
    captions = [example.caption for example in examples]
    inputs = job.inputs_of([example.shown for example in examples])
    ways: dict[str, list[Mapping[str, Tensor]]] = {"shown": inputs, "off": [{}] * num_pictures}
    if any(inputs):
        ways["wrong"] = [inputs[other] for other in others(examples)]
    drawn = {}
    for way, own in ways.items():
        with job.weights.sampled(float(way != "off"), float(way != "off")):
            drawn[way] = job.draw(captions, own, seed=SEED)
    _write_grid(grid, examples, drawn)
    scores = {way: _mean_score(task, pictures, examples) for way, pictures in drawn.items()}
    return AdapterProof(kind, num_pictures, scores["shown"], scores["off"], scores.get("wrong"))


def others(examples: Sequence[AdapterExample]) -> list[int]:
    """For each example the next one that shows another colour in another place, whose input is wrong for it."""
    count, found = len(examples), []
    for index, example in enumerate(examples):
        following = ((index + step) % count for step in range(1, count))
        found.append(next(other for other in following if _is_other(examples[other], example)))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = proof_parser("adapter_proof", __doc__, folder="the run's output folder, with its final files")
    parser.add_argument("--pictures", type=int, default=48, help="number of images of each kind (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder: Path = options.output_folder.resolve()
    grid = folder / "samples" / "adapter_proof.jpg"
    return run_proof(
        lambda: prove(folder, num_pictures=options.pictures, grid=grid),
        record=folder / "adapter_proof.json",
        report=lambda proof: proof.report(),
        closing=f" All ways side by side: {grid}",
    )


def _is_other(one: AdapterExample, other: AdapterExample) -> bool:
    return one.scene.color != other.scene.color and one.scene.place != other.scene.place


def _mean_score(task: Task, pictures: Pictures, examples: Sequence[AdapterExample]) -> float:
    return float(np.mean([task.score(picture, one) for picture, one in zip(pictures, examples, strict=True)]))


def _write_grid(path: Path, examples: Sequence[AdapterExample], drawn: Mapping[str, Pictures]) -> None:
    """Write a row of what the adapter sees, a row of the true images, and one for each way of drawing."""
    shown = examples[:NUM_SHOWN]
    rows: list[Row] = [("true", [example.caption for example in shown], [np.asarray(e.picture) for e in shown])]
    if all(example.shown is not None for example in shown):
        rows.append(("input", [], [np.asarray(example.shown) for example in shown]))
    rows += [(label, [], pictures[:NUM_SHOWN]) for label, pictures in drawn.items()]
    with whole_file(path) as temporary:
        picture_grid(rows).save(temporary, quality=95)


if __name__ == "__main__":
    sys.exit(main())
