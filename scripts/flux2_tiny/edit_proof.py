"""Prove that a LoRA taught the tiny FLUX.2 an edit: edit held-out images without and with the LoRA, and count.

    python -m scripts.flux2_tiny.edit_proof output/flux2_tiny_edit

PASS: at most 5 % of the images come out edited before training, at least 60 % after it, and at most 10 % if the trained
model does not get the image to edit, which shows that it uses the reference instead of guessing. Exit code 0 on PASS, 1
on FAIL, 2 if there is nothing to prove.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.flux2_tiny.draw import draw_edits, load_pipeline
from scripts.flux2_tiny.edits import EDIT_PROMPT, edit_scenes, render_edit, shows_edit
from scripts.flux2_tiny.grid import Row, picture_grid
from scripts.flux2_tiny.proof import NUM_SHOWN, SEED, TINY_MODEL, proof_parser, run_proof
from scripts.flux2_tiny.world import Scene
from toolkit.errors import UserError
from toolkit.files import whole_file

MAX_BEFORE = 0.05
MIN_AFTER = 0.60
MAX_BLIND = 0.10


@dataclass(frozen=True)
class EditProof:
    """Shares, 0..1, of images that came out edited.

    Attributes:
        num_pictures: number of images drawn for each share.
        before: share without the LoRA.
        after: share with the LoRA.
        blind: share with the LoRA, but without the image to edit.
    """

    num_pictures: int
    before: float
    after: float
    blind: float

    @property
    def passed(self) -> bool:
        """Whether the edit was unknown before, is known now, and depends on the reference."""
        return self.before <= MAX_BEFORE and self.after >= MIN_AFTER and self.blind <= MAX_BLIND


def prove_edit(lora: Path, *, model: Path, num_pictures: int, grid: Path) -> EditProof:
    """Draw edits of held-out images without and with a LoRA, judge them, and write some to `grid`.

    Raises:
        UserError: the LoRA or the model is missing, or the LoRA changes no image.
    """
    if not lora.is_file():
        raise UserError(
            f"{lora}: no LoRA found. Train one: python run.py config/examples/train_lora_flux2_edit_tiny.yaml"
        )
    if not (model / "model_index.json").is_file():
        raise UserError(f"{model}: no tiny FLUX.2 found. Make it: python -m scripts.make_flux2_tiny")
    scenes = edit_scenes(num_pictures, seed=SEED, held_out=True)
    pairs = [render_edit(scene, seed=SEED + index) for index, scene in enumerate(scenes)]
    references, targets = [pair[0] for pair in pairs], [np.asarray(pair[1]) for pair in pairs]
    pipeline = load_pipeline(model)
    before = draw_edits(pipeline, references, prompt=EDIT_PROMPT, seed=SEED)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    after = draw_edits(pipeline, references, prompt=EDIT_PROMPT, seed=SEED)
    blind = draw_edits(pipeline, [None] * num_pictures, prompt=EDIT_PROMPT, seed=SEED)
    # diffusers only warns about unknown keys.
    if all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)):
        raise UserError(f"{lora}: diffusers loaded it, but no image changed: none of its weights fit {model}")
    _write_grid(grid, references, {"before": before, "after": after, "blind": blind, "target": targets})
    return EditProof(num_pictures, *(_share(pictures, targets, scenes) for pictures in (before, after, blind)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = proof_parser("edit_proof", __doc__, folder="the run's output folder, with <its name>.safetensors")
    parser.add_argument("--model", type=Path, default=TINY_MODEL, help="the tiny FLUX.2 (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=32, help="number of images to edit (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder: Path = options.output_folder.resolve()
    lora, grid = folder / f"{folder.name}.safetensors", folder / "samples" / "edit_proof.jpg"
    return run_proof(
        lambda: prove_edit(lora, model=options.model, num_pictures=options.pictures, grid=grid),
        record=folder / "edit_proof.json",
        report=report,
        closing=f" Before and after: {grid}",
    )


def report(proof: EditProof) -> str:
    """The proof as a small table with a verdict."""
    return "\n".join(
        [
            f"{proof.num_pictures} held-out images                  edited   required",
            f"{'before training':34}{proof.before:7.0%}   <= {MAX_BEFORE:.0%}",
            f"{'after training':34}{proof.after:7.0%}   >= {MIN_AFTER:.0%}",
            f"{'after training, without reference':34}{proof.blind:7.0%}   <= {MAX_BLIND:.0%}",
            "PASS" if proof.passed else "FAIL",
        ]
    )


def _share(
    pictures: Sequence[NDArray[np.uint8]], targets: Sequence[NDArray[np.uint8]], scenes: Sequence[Scene]
) -> float:
    edited = [
        shows_edit(picture, target, background=scene.background)
        for picture, target, scene in zip(pictures, targets, scenes, strict=True)
    ]
    return float(np.mean(edited))


def _write_grid(path: Path, references: Sequence[Image.Image], drawn: dict[str, Sequence[NDArray[np.uint8]]]) -> None:
    """Write a row with the images to edit, and a row for each kind of result."""
    shown = [np.asarray(reference) for reference in references[:NUM_SHOWN]]
    rows: list[Row] = [("shown", [], shown)]
    rows += [(label, [], pictures[:NUM_SHOWN]) for label, pictures in drawn.items()]
    with whole_file(path) as temporary:
        picture_grid(rows).save(temporary, quality=95)


if __name__ == "__main__":
    sys.exit(main())
