"""Which blocks of a trained network matter: the change of the loss when each block's part is switched off."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.block_losses import Grid, Meter
from jobs.job import Job
from jobs.process.encode_stages import encode_all
from jobs.process.make_model import make_model
from jobs.process.output import Output
from jobs.process.training_check import training_needs
from jobs.process.training_checked import TrainingChecked
from toolkit.config import load_job
from toolkit.data.examples import Example
from toolkit.errors import UserError
from toolkit.lora.settings import read_lora_tensors
from toolkit.networks.network import Network
from toolkit.output.events import SilentLog
from toolkit.randomness import Draws
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.stages import Stages
from toolkit.units import duration


@dataclass(frozen=True)
class BlockEffect:
    """What a block's part of a network does to the loss.

    Attributes:
        name: the block's name in the released model.
        num_layers: number of its layers that the network changes.
        change: mean change of the loss without it, over the grid; above 0: the loss is worse without it.
        error: standard error of that mean, between images.
        by_level: the change at each noise level, from little noise to much.
    """

    name: str
    num_layers: int
    change: float
    error: float
    by_level: tuple[float, ...]


@dataclass(frozen=True)
class BlockStudy:
    """The result of a study.

    Attributes:
        file: the file of the network.
        sigmas: the noise levels.
        num_images: number of images.
        with_all: mean loss with the whole network.
        without_any: mean loss of the model without it.
        blocks: the blocks in the model's order.
    """

    file: str
    sigmas: tuple[float, ...]
    num_images: int
    with_all: float
    without_any: float
    blocks: tuple[BlockEffect, ...]


def study_blocks(job: Path, file: Path, grid: Grid, say: Callable[[str], None]) -> BlockStudy:
    """Measure the blocks of a network on the images of its job, in the order and number format that it trains in.

    Captions and images are encoded as in training, or read from the job's caches. The result depends only on the job,
    the file and the grid.

    Args:
        job: the job file, or the output folder of a run.
        file: a file of the network of the job.
        grid: the points at which the loss is measured.
        say: called with lines for the user, the time that it will take among them.

    Raises:
        UserError: the job cannot work, trains no network, or the file is not of its network.
    """
    checked = _checked(job)
    network_config = checked.config.network
    if network_config is None or checked.config.adapter:
        raise UserError(
            f"{job}: only the blocks of a network can be compared: the job needs a `network` and no `adapter`."
        )
    examples = _spread(checked.scan.examples, grid.num_images)
    config = checked.config.model_copy(
        update={"train": checked.config.train.model_copy(update={"batch_size": 1, "disable_sampling": True})}
    )
    start = replace(checked.start, config=config)
    scan = replace(checked.scan, examples=examples)
    checked = replace(checked, start=start, scan=scan, needs=training_needs(start, checked.card, scan))
    with tempfile.TemporaryDirectory() as folder:
        progress = Progress()
        stages = Stages(SilentLog(), progress, redact=start.job.redact)
        out = Output(Path(folder), SilentLog(), progress, stages, None)
        model = make_model(checked, notify=stages.info)
        encoded = encode_all(checked, model, out, StopRequest())
        model.load("transformer")
        network = Network(model, network_config, Draws(config.training_seed))
        network.apply()
        tensors, metadata = read_lora_tensors(file)
        network.load_state_dict(tensors, source=str(file), metadata=metadata)
        model.transformer.eval()
        meter = Meter(checked, model, network, encoded, grid)
        return _measured(meter, file, say)


def as_text(study: BlockStudy) -> list[str]:
    """The table of a study, one line for each block."""
    gain = study.without_any - study.with_all
    width = max(len(block.name) for block in study.blocks)
    levels = " ".join(f"{sigma:>9.2f}" for sigma in study.sigmas)
    lines = [
        f"{study.file}: loss {study.with_all:.5f} with it, {study.without_any:.5f} without, mean of "
        f"{study.num_images} images at {len(study.sigmas)} noise levels",
        "Change of the loss without the part of one block (above 0: the block helps), and at each noise level:",
        f"{'block':<{width}} layers    change   +- error  of gain {levels}",
    ]
    for block in study.blocks:
        share = f"{100 * block.change / gain:6.1f} %" if gain > 0 else "       -"
        by_level = " ".join(f"{value:>+9.5f}" for value in block.by_level)
        lines.append(
            f"{block.name:<{width}} {block.num_layers:>6} {block.change:>+9.5f}  {block.error:>9.5f} {share} {by_level}"
        )
    return lines


def _checked(job: Path) -> TrainingChecked:
    path = job / "config.yaml" if job.is_dir() else job
    if not path.is_file():
        raise UserError(f"{job}: neither a job file nor the output folder of a run (which has a config.yaml).")
    found = [one for one in Job(load_job(path)).checks() if isinstance(one, TrainingChecked)]
    if not found:
        raise UserError(f"{job}: this job has no training process.")
    if found[0].problems:
        raise UserError(f"{job}: the job cannot run:\n" + "\n".join(f"  {problem}" for problem in found[0].problems))
    return found[0]


def _spread(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    """A number of different images, evenly spaced over all, each with its whole caption and a fixed crop."""
    images = list({example.content_hash: example for example in reversed(examples)}.values())[::-1]
    count = min(count, len(images))
    chosen = (images[index * len(images) // count] for index in range(count))
    return tuple(
        replace(one, caption_dropout_rate=0.0, random_crop=False, reference_dropout_rate=0.0) for one in chosen
    )


def _measured(meter: Meter, file: Path, say: Callable[[str], None]) -> BlockStudy:
    blocks = meter.blocks()
    meter.losses(images=1)  # the first pass of a process is slower
    began = time.monotonic()
    meter.losses(images=1)
    rounds = (len(blocks) + 2) * meter.num_images
    seconds = (time.monotonic() - began) * rounds
    say(f"{len(blocks)} blocks: {rounds * meter.grid.num_levels} passes through the model, about {duration(seconds)}")
    whole = meter.losses()
    nothing = meter.losses(frozenset().union(*blocks.values()))
    effects = []
    for name, targets in blocks.items():
        change = meter.losses(targets) - whole  # [images, levels]
        by_image = change.mean(dim=1)
        error = float(by_image.std()) / len(by_image) ** 0.5 if len(by_image) > 1 else float("nan")
        effects.append(BlockEffect(name, len(targets), float(change.mean()), error, tuple(change.mean(dim=0).tolist())))
    return BlockStudy(
        str(file),
        tuple(meter.grid.sigmas),
        meter.num_images,
        float(whole.mean()),
        float(nothing.mean()),
        tuple(effects),
    )
