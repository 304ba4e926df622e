"""Which blocks of a trained network matter: the change of the loss when each block's part is switched off."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jobs.blocks.effects import BlockStudy, Grid, Meter, measured
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
from toolkit.models.base_model import BaseModel
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.output.events import SilentLog
from toolkit.randomness import Draws
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Encoded, Feeder
from toolkit.train.stages import Stages


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
        raise UserError(f"{job}: blocks are compared of a network alone: the job needs a `network` and no `adapter`.")
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
        return measured(Meter(model, network, _batches(checked, model, encoded), grid), file, say)


def _checked(job: Path) -> TrainingChecked:
    path = job / "config.yaml" if job.is_dir() else job
    if not path.is_file():
        raise UserError(f"{job}: neither a job file nor the output folder of a run (which has a config.yaml).")
    found = [one for one in Job(load_job(path)).checks() if isinstance(one, TrainingChecked)]
    if not found:
        raise UserError(f"{job}: no process of this job trains.")
    if found[0].problems:
        raise UserError(f"{job}: the job cannot work:\n" + "\n".join(f"  {problem}" for problem in found[0].problems))
    return found[0]


def _spread(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    """So many different images, evenly over all, each with its whole caption and a fixed crop."""
    images = list({example.content_hash: example for example in reversed(examples)}.values())[::-1]
    count = min(count, len(images))
    chosen = (images[index * len(images) // count] for index in range(count))
    return tuple(
        replace(one, caption_dropout_rate=0.0, random_crop=False, reference_dropout_rate=0.0) for one in chosen
    )


def _batches(checked: TrainingChecked, model: BaseModel, encoded: Encoded) -> dict[int, Batch]:
    """A batch of each example alone."""
    examples, found, index = checked.scan.examples, dict[int, Batch](), 0
    feeder = Feeder.of_run(checked.config, examples, model, encoded, ranks=checked.start.batch_ranks)
    # The plan's order is one of its own for each epoch and dataset.
    while len(found) < len(examples):
        (member, *_) = feeder.plan.batch(index)
        if member not in found:
            found[member] = feeder.batch(index)
        index += 1
    return found
