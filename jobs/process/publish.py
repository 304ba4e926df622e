"""What is done with the results of a finished run outside its folder: they are uploaded, if the job asks for it."""

from __future__ import annotations

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.errors import UserError
from toolkit.hub import upload


def publish(checked: TrainingChecked, out: Output) -> None:
    """Upload to the hub. A failure is told, with how to try again; the run has succeeded all the same."""
    config, job = checked.config, checked.start.job
    if not config.save.push_to_hub:
        return
    out.stages.info(f"uploading to {config.save.hf_repo_id}")
    try:
        address = upload(job.name, out.folder, config, checked.card, redact=job.redact)
    except UserError as error:
        out.stages.warn(f"not uploaded: {error}. The results are safe; start the same job again to try again.")
    except KeyboardInterrupt:
        out.stages.warn("not uploaded: stopped. The results are safe; start the same job again to upload them.")
    else:
        out.stages.info(f"uploaded: {address}")
