"""What is left to do for a run that has done all its steps: delete old checkpoints and leftovers, upload results."""

from __future__ import annotations

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.encode.leftovers import remove_overflow
from toolkit.errors import UserError
from toolkit.hub import upload
from toolkit.train.tasks.task import finish_retention


def end_again(checked: TrainingChecked, step: int, out: Output) -> None:
    """Do what a run that was stopped after its last step has left to do.

    Args:
        checked: the start that has found nothing to train.
        step: of the last checkpoint.
        out: where to tell what is done.
    """
    finish_retention(out.folder, checked.config.save, step, out.stages)
    remove_overflow(out.folder)
    publish(checked, out)


def publish(checked: TrainingChecked, out: Output) -> None:
    """Upload to the hub, if the job asks for it. A failure is reported, with how to retry: the run has succeeded."""
    config, job = checked.config, checked.start.job
    if not config.save.push_to_hub:
        return
    out.stages.info(f"uploading to {config.save.hf_repo_id}")
    try:
        address = upload(job.name, out.folder, config, checked.card, redact=job.redact)
    except UserError as error:
        out.stages.warn(f"not uploaded: {error}. The results are safe; start the same job again to retry.")
    except KeyboardInterrupt:
        out.stages.warn("not uploaded: stopped. The results are safe; start the same job again to upload them.")
    else:
        out.stages.info(f"uploaded: {address}")
