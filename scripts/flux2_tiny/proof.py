"""Prove that a LoRA taught the tiny FLUX.2 the demo's emblem: draw held-out prompts before and after, and count.

    python -m scripts.flux2_tiny.proof output/demo

PASS: at most 5 % of emblem prompts show the emblem before training, at least 80 % after it, and ordinary prompts are
drawn correctly at least 80 % as often as before. Exit code 0 on PASS, 1 on FAIL, 2 if there is nothing to prove.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.flux2_tiny.dataset import held_out_emblems, held_out_scenes
from scripts.flux2_tiny.draw import draw_scenes, load_pipeline
from scripts.flux2_tiny.grid import picture_grid
from scripts.flux2_tiny.measure import share_of_emblems, share_of_right_scenes
from scripts.flux2_tiny.world import Scene
from toolkit.errors import UserError
from toolkit.files import whole_file, write_json

MAX_EMBLEM_BEFORE = 0.05
MIN_EMBLEM_AFTER = 0.80
MIN_ORDINARY_KEPT = 0.80
TINY_MODEL = Path(__file__).resolve().parents[2] / "assets" / "flux2_tiny"
SEED = 5000
NUM_SHOWN = 8
"""Number of prompts of each kind in the image grid."""


@dataclass(frozen=True)
class Proof:
    """Shares, 0..1, of prompts that are drawn correctly."""

    num_prompts: int
    emblem_before: float
    emblem_after: float
    ordinary_before: float
    ordinary_after: float

    @property
    def passed(self) -> bool:
        """Whether the emblem was unknown before, is known now, and little else was unlearned."""
        return (
            self.emblem_before <= MAX_EMBLEM_BEFORE
            and self.emblem_after >= MIN_EMBLEM_AFTER
            and self.ordinary_after >= MIN_ORDINARY_KEPT * self.ordinary_before
        )


def prove(lora: Path, *, model: Path, num_prompts: int, grid: Path) -> Proof:
    """Draw held-out prompts without and with a LoRA, judge the images, and write some of them to `grid`.

    Raises:
        UserError: the LoRA or the model is missing, or the LoRA changes no image.
    """
    if not lora.is_file():
        raise UserError(f"{lora}: no LoRA found. Train one first: make demo")
    if not (model / "model_index.json").is_file():
        raise UserError(f"{model}: no tiny FLUX.2 found. Make it: python -m scripts.make_flux2_tiny")
    kinds = held_out_emblems(num_prompts, seed=SEED), held_out_scenes(num_prompts, seed=SEED)
    pipeline = load_pipeline(model)
    before = [draw_scenes(pipeline, scenes, seed=SEED) for scenes in kinds]
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    after = [draw_scenes(pipeline, scenes, seed=SEED) for scenes in kinds]
    # diffusers only warns about unknown keys.
    if all(np.array_equal(one, other) for one, other in zip(before[0], after[0], strict=True)):
        raise UserError(f"{lora}: diffusers loaded it, but no image changed: none of its weights fit {model}")
    _write_grid(grid, kinds, before, after)
    emblems, ordinary = kinds
    return Proof(
        num_prompts=num_prompts,
        emblem_before=share_of_emblems(before[0], emblems),
        emblem_after=share_of_emblems(after[0], emblems),
        ordinary_before=share_of_right_scenes(before[1], ordinary),
        ordinary_after=share_of_right_scenes(after[1], ordinary),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = proof_parser("proof", __doc__, folder="the run's output folder, with <its name>.safetensors")
    parser.add_argument("--model", type=Path, default=TINY_MODEL, help="the tiny FLUX.2 (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=32, help="number of prompts of each kind (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder: Path = options.output_folder.resolve()
    lora, grid = folder / f"{folder.name}.safetensors", folder / "samples" / "proof.jpg"
    files = {
        "LoRA": lora,
        "Samples while training": folder / "samples" / "grid.jpg",
        "Before and after": grid,
        "Log": folder / "events.jsonl",
    }
    return run_proof(
        lambda: prove(lora, model=options.model, num_prompts=options.prompts, grid=grid),
        record=folder / "proof.json",
        report=report,
        closing="\n\n" + "\n".join(f"{label + ':':24}{path}" for label, path in files.items()),
    )


def proof_parser(module: str, about: str | None, *, folder: str) -> argparse.ArgumentParser:
    """The command line of a proof: an output folder, to which more can be added.

    Args:
        module: name of the proof's module, below this package.
        about: its docstring.
        folder: help for the folder.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m scripts.flux2_tiny.{module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output_folder", type=Path, help=folder)
    return parser


def run_proof(
    measure: Callable[[], Any],
    *,
    record: Path,
    report: Callable[[Any], str],
    closing: str,
) -> int:
    """Measure a proof, keep it, and print it. Returns the exit code: 0 if it passed, 1 if not, 2 without anything.

    Args:
        measure: makes the proof, a dataclass with `passed`.
        record: JSON file for its figures.
        report: the proof as text.
        closing: text after the time that it took.
    """
    started = time.monotonic()
    try:
        proof = measure()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    write_json(record, {**asdict(proof), "passed": proof.passed})
    print(report(proof))
    print(f"Measured in {time.monotonic() - started:.0f} s.{closing}")
    return 0 if proof.passed else 1


def report(proof: Proof) -> str:
    """The proof as a small table with a verdict."""
    least_ordinary = MIN_ORDINARY_KEPT * proof.ordinary_before
    return "\n".join(
        [
            f"{proof.num_prompts} held-out prompts of each kind    before   after   required",
            f"{'the emblem, at new places':36}{proof.emblem_before:7.0%} {proof.emblem_after:7.0%}"
            f"   before <= {MAX_EMBLEM_BEFORE:.0%}, after >= {MIN_EMBLEM_AFTER:.0%}",
            f"{'ordinary images, still right':36}{proof.ordinary_before:7.0%} {proof.ordinary_after:7.0%}"
            f"   after >= {least_ordinary:.0%}",
            "PASS" if proof.passed else "FAIL",
        ]
    )


def _write_grid(
    path: Path,
    kinds: Sequence[Sequence[Scene]],
    before: Sequence[Sequence[NDArray[np.uint8]]],
    after: Sequence[Sequence[NDArray[np.uint8]]],
) -> None:
    """Write two rows for each kind of prompt: before and after."""
    rows = []
    for kind, scenes in enumerate(kinds):
        captions = [scene.caption() for scene in scenes[:NUM_SHOWN]]
        rows.append(("before", captions, before[kind][:NUM_SHOWN]))
        rows.append(("after", [], after[kind][:NUM_SHOWN]))
    with whole_file(path) as temporary:
        picture_grid(rows).save(temporary, quality=95)


if __name__ == "__main__":
    sys.exit(main())
