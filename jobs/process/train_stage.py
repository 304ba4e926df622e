"""The training stage of a run: builds the parts of the training loop and runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobs.process.output import Output
from jobs.process.training_checked import TrainingChecked
from toolkit.config import SampleItem, TrainingProcessConfig
from toolkit.models.base_model import BaseModel
from toolkit.objectives.choices import OBJECTIVES
from toolkit.output.run_record import RunRecord
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Encoded, Feeder
from toolkit.train.learner import Learner
from toolkit.train.loop import Loop
from toolkit.train.recorder import Recorder
from toolkit.train.resume import ResumePlan
from toolkit.train.step import Stepper
from toolkit.train.tasks.metadata import BaseWeights, file_metadata, published_name
from toolkit.train.tasks.sample_info import sample_info
from toolkit.train.tasks.sample_needs import reference_rules, sample_items, sample_views
from toolkit.train.tasks.sampling import Sampler, SampleSettings
from toolkit.train.tasks.saver import Saver
from toolkit.train.tasks.task import SampleTask, SaveTask
from toolkit.train.validation.of_run import Validation


@dataclass(frozen=True)
class TrainStage:
    """The last stage of a training run.

    Attributes:
        checked: the result of the check.
        learner: the loaded model with its trained weights and everything that updates them.
        encoded: the captions and images that the earlier stages have encoded.
        out: the outputs of the run.
        record: the run record of this start; None if none is kept.
        twin: the model that samples are drawn on, of which nothing is loaded; None if it is the model being trained.
    """

    checked: TrainingChecked
    learner: Learner
    encoded: Encoded
    out: Output
    record: RunRecord | None
    twin: BaseModel | None = None

    @property
    def config(self) -> TrainingProcessConfig:
        """The settings of the run."""
        return self.checked.config

    def run(self, resume: ResumePlan, stop: StopRequest) -> None:
        """Train from the step that `resume` starts at to the last step.

        Raises:
            Interrupted: a stop was requested; a checkpoint has been saved.
            UserError: the checkpoint is from another job, the loss is no longer finite, or saving failed.
        """
        config, train, ranks, out = self.config, self.config.train, self.checked.start.batch_ranks, self.out
        objective = OBJECTIVES[train.objective].load().from_config(train)
        feeder = Feeder.of_run(config, self.checked.scan.examples, self.learner.model, self.encoded, ranks=ranks)
        metadata = self._metadata_at(feeder, self.learner.model)
        validation = Validation(config, self.checked.grid, resume.bundle)
        saver, epochs_done = self._saver(metadata, validation, resume), feeder.plan.epochs_done
        save = SaveTask(saver, out.stages, in_place=self._must_be_in_place, epochs_done=epochs_done)
        factors = sorted(set(self.learner.weights.rates(train.lr).values()))
        log_every = config.logging.log_every
        recorder = Recorder(
            out.events,
            out.progress,
            log_dir=out.log_dir,
            log_every=log_every,
            factors=factors,
            describe=feeder.describe,
        )
        sampler = self._sampler(feeder)
        sample = SampleTask(
            sampler,
            config.sample,
            out.stages,
            first="always" if train.force_first_sample else "never" if train.skip_first_sample else "once",
            in_place=self._must_be_in_place,
            score=validation.score(sampler, self.checked.scan.examples, out.stages, recorder),
        )
        with recorder, feeder.ahead():
            start = save.resume(resume, train.steps, ranks)
            validate = validation.task(feeder, saver, out.stages, recorder, in_place=self._must_be_in_place)
            Loop(
                feeder=feeder,
                stepper=Stepper(self.learner, objective, feeder.draws, ranks, datasets=config.told_apart),
                tasks=(save, sample) if validate is None else (validate, save, sample),  # a save has the step's round
                recorder=recorder,
                progress=out.progress,
                ranks=ranks,
            ).run(start, train.steps, stop, is_enough=validation.is_enough)

    def _must_be_in_place(self) -> None:
        """Raise FolderLost if the output folder is no longer the run's."""
        if self.record is not None:
            self.out.must_be_in_place(self.record)

    def _metadata_at(self, feeder: Feeder, model: BaseModel) -> Callable[[int], dict[str, str]]:
        """Metadata on the training at a step, for saved files and for pictures that are drawn with the model."""
        name = self.checked.start.job.redact(published_name(model.model_config.name_or_path))
        base = BaseWeights(name, model.fingerprint("transformer"))
        return lambda step: self._metadata(step, feeder.plan.epochs_done(step), base)

    def _saver(self, metadata: Callable[[int], dict[str, str]], validation: Validation, resume: ResumePlan) -> Saver:
        start, model = self.checked.start, self.learner.model
        facts = replace(self.checked.run_facts(), device=self.learner.device, attention=model.attention_kernel)
        if self.record is not None:
            bundle = str(resume.bundle.folder) if resume.bundle else None
            shared = {"ranks": facts.world, "batches_per_step": facts.batches_per_step} if facts.world > 1 else {}
            self.record.resumed(resume.step, bundle=bundle, device=facts.device, attention=facts.attention, **shared)
        return Saver(
            start.output_folder,
            self.config.save,
            self.learner,
            facts=facts,
            metadata=metadata,
            documents=validation.documents,
        )

    def _sampler(self, feeder: Feeder) -> Sampler:
        config, start = self.config, self.checked.start
        metadata = self._metadata_at(feeder, self.twin or self.learner.model)
        settings = SampleSettings(
            items=sample_items(config),
            first_items=sample_items(config, first=True),
            rules=reference_rules(config, self.checked.card),
            reference_background=config.reference_background,
            format=config.sample.format,
            first_format=(config.first_sample or config.sample).format,
            draws=feeder.draws,
            strip=config.sample.strip,
            batch_size=self.checked.sample_batch,
            twin=self.twin,
            keeps_twin=self.checked.keeps_twin,
        )

        def describe(item: SampleItem, step: int) -> dict[str, Any]:
            self._must_be_in_place()  # a round may take long, and the next thing is to write a file
            return sample_info(item, step, metadata(step), start.job.redact)

        return Sampler(
            self.learner,
            self.encoded.prompts,
            settings,
            folder=start.output_folder / "samples",
            describe=describe,
            extras=lambda item: self.encoded.of_sample(sample_views(config, item), item, self.learner.model),
        )

    def _metadata(self, step: int, epoch: int, base: BaseWeights) -> dict[str, str]:
        job, config = self.checked.start.job, self.config
        settings = config.train.model_dump(mode="json", exclude_defaults=True)
        return file_metadata(
            job_name=job.name,
            step=step,
            epoch=epoch,
            base_model=self.learner.model.get_base_model_version(),
            trigger_word=job.redact(config.trigger_word or ""),
            meta=job.redacted(dict(job.meta)),
            base_weights=base,
            network=None if config.train.merge_network_on_save else config.network,
            settings=settings | {"seed": config.training_seed, "num_examples": len(self.checked.scan.examples)},
        )
