"""The staged plan of a training run, top to bottom: check, encode text, encode images, train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from jobs.process.BaseProcess import BaseProcess
from jobs.process.output import Output, open_output
from jobs.process.start import Start
from jobs.process.training_check import TrainingChecked, check_training, run_facts
from toolkit.config import TrainingProcessConfig
from toolkit.data.batches import BatchPlan
from toolkit.data.examples import Example
from toolkit.dtypes import torch_dtype
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.encode.storage import LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, cache_folder
from toolkit.errors import Interrupted
from toolkit.files import sweep_temporary
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.objectives.choices import OBJECTIVES
from toolkit.output.bundles import step_folders
from toolkit.parallel.ranks import OneProcess
from toolkit.plan.stage_list import ENCODE_IMAGES, ENCODE_TEXT, TRAIN, EncodeStage, Stage
from toolkit.randomness import Draws
from toolkit.stop import StopRequest
from toolkit.train.feeder import Encoded, Feeder, FeedSettings
from toolkit.train.finished import describe_end, is_finished
from toolkit.train.learner import Learner, build_learner
from toolkit.train.loop import Loop
from toolkit.train.metadata import BaseWeights, file_metadata, published_name
from toolkit.train.precision import device_name, make_current, pick_device
from toolkit.train.recorder import Recorder
from toolkit.train.resume import ResumePlan, RunFacts, make_way, plan_resume
from toolkit.train.sample_needs import reference_rules, sample_items
from toolkit.train.sampling import Sampler, SampleSettings
from toolkit.train.saver import Saver
from toolkit.train.step import Stepper
from toolkit.train.task import SampleTask, SaveTask
from toolkit.train.trainable import TrainableWeights
from toolkit.util.get_model import get_model_class

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class BaseSDTrainProcess(BaseProcess):
    """Trains a model on images with captions. A subclass says what is trained (`make_trainable`)."""

    checked: TrainingChecked

    @property
    def config(self) -> TrainingProcessConfig:
        """This entry."""
        return self.checked.config

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """The weights that the optimizer changes. The transformer has been loaded."""
        raise NotImplementedError

    @classmethod
    def check(cls, start: Start) -> TrainingChecked:
        """See BaseProcess.check."""
        return check_training(start)

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run: the stages one after another, each loading what it needs and freeing it."""
        checked, config = self.checked, self.config
        stop.grace_s = config.save.term_grace_s
        resume = plan_resume(self.output_folder, checked.start.resume, self._facts(), is_thorough=True)
        self._sweep()
        made_way = make_way(resume, self.output_folder)
        plan = checked.memory.plan if checked.memory else None
        with open_output(checked.start, plan, lambda: str(pick_device(config.device))) as out:
            if made_way is not None:
                out.stages.warn(made_way)
            if is_finished(resume, self._facts(), self.output_folder):
                for line in (*resume.notices, *describe_end(resume, config.train.steps)):
                    out.stages.tell(line)
                return
            model = self._make_model(notify=out.stages.tell)
            make_current(model.device)
            model.check_access()
            encodings = Encodings(out.stages.warn, overflow=self.output_folder / OVERFLOW_CACHE)
            with self._stage(ENCODE_TEXT, out, stop):
                prompts = self._encode_texts(model, encodings, out, stop)
                self._free(ENCODE_TEXT, model)
            with self._stage(ENCODE_IMAGES, out, stop):
                images = self._encode_pictures(model, encodings, out, stop)
                self._free(ENCODE_IMAGES, model)
            with out.stages.stage(TRAIN.name):
                with stop.ends_at_once(TRAIN.stopped):
                    self._load(model, out)
                self._train(model, prompts, images, out, resume, stop)
            encodings.remove_overflow()

    def _sweep(self) -> None:
        """Delete what killed runs left half-written, in the caches too."""
        own = self.output_folder
        folders = {own, own / "samples", own / OVERFLOW_CACHE, *step_folders(own)}
        caches = (LATENT_CACHE, TEXT_CACHE)
        folders |= {cache_folder(dataset, name, own) for dataset in self.config.datasets for name in caches}
        for folder in sorted(folders):
            sweep_temporary(folder)

    @contextmanager
    def _stage(self, stage: Stage, out: Output, stop: StopRequest) -> Iterator[None]:
        """A stage before the first step: there is nothing to save when it is stopped."""
        with out.stages.stage(stage.name), stop.ends_at_once(stage.stopped):
            yield

    def _free(self, stage: Stage, model: BaseModel) -> None:
        if not self.checked.needs.keeps(stage.component):
            model.free(stage.component)

    def _make_model(self, *, notify: Callable[[str], None]) -> BaseModel:
        config, train, shares = self.config, self.config.train, None
        if self.checked.memory is not None:
            inputs = self.checked.memory.plan.inputs
            shares = {"transformer": inputs.offloaded, "text_encoder": inputs.te_offloaded}
        trained_dtype = torch_dtype("fp32" if train.full_finetune_weights == "fp32" else "bf16")
        options = ModelOptions(
            transformer_dtype=trained_dtype if config.network is None else None,
            notify=notify,
            offload_shares=shares,
        )
        model_class, device = get_model_class(config.model), pick_device(config.device)
        return model_class(config.model, device=device, dtype=torch_dtype(train.dtype), options=options)

    def _load(self, model: BaseModel, out: Output) -> None:
        """What training needs of the model."""
        for resident in self.checked.needs.resident:
            model.load(resident.component)
        model.load(TRAIN.component)
        if (offloading := model.loader.describe(TRAIN.component)) is not None:
            out.stages.tell(offloading)

    def _encode_texts(self, model: BaseModel, encodings: Encodings, out: Output, stop: StopRequest) -> PromptEncoder:
        """Every caption and sample prompt, once."""
        fingerprint, redact = model.fingerprint(ENCODE_TEXT.component), self.job.redact
        prompts = PromptEncoder(model, encodings, fingerprint=fingerprint, warn=out.stages.warn, redact=redact)
        _encode_all(prompts, self.checked.needs.texts.items(), ENCODE_TEXT, out, stop)
        return prompts

    def _encode_pictures(self, model: BaseModel, encodings: Encodings, out: Output, stop: StopRequest) -> ImageEncoder:
        """Every image and reference, once, but for images that are cropped anew each time."""
        fingerprint = model.fingerprint(ENCODE_IMAGES.component)
        backgrounds = [dataset.background_color for dataset in self.config.datasets]
        images = ImageEncoder(model, encodings, fingerprint=fingerprint, backgrounds=backgrounds)
        pictures = ((picture.source, picture.folder) for picture in self.checked.needs.pictures)
        _encode_all(images, pictures, ENCODE_IMAGES, out, stop)
        return images

    def _train(
        self,
        model: BaseModel,
        prompts: PromptEncoder,
        images: ImageEncoder,
        out: Output,
        resume: ResumePlan,
        stop: StopRequest,
    ) -> None:
        """Put the parts of the loop together and run it."""
        stages = out.stages
        config, train, draws, ranks = self.config, self.config.train, Draws(self.config.training_seed), OneProcess()
        weights = self.make_trainable(model, draws)
        stages.tell(weights.describe())
        if train.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        assert model.transformer is not None
        model.transformer.train()
        learner = build_learner(model, weights, train, draws=draws, ranks=ranks)
        objective = OBJECTIVES[train.objective].load().from_config(train)
        per_step = train.gradient_accumulation * ranks.world
        plan = BatchPlan(self._examples, train.batch_size, draws, batches_per_step=per_step)
        feed = FeedSettings(
            train.gradient_accumulation,
            use_captions=config.uses_captions,
            guidance=train.cfg_scale,
            bypass_guidance_embedding=train.bypass_guidance_embedding,
        )
        save = SaveTask(self._make_saver(learner, plan, resume), stages)
        sample = SampleTask(
            self._make_sampler(learner, prompts),
            config.sample,
            stages,
            is_first_skipped=train.skip_first_sample,
            is_first_forced=train.force_first_sample,
        )
        with Recorder(out.events, out.progress, log_dir=out.log_dir, log_every=config.logging.log_every) as recorder:
            start = save.resume(resume, train.steps)
            Loop(
                feeder=Feeder(model, plan, Encoded(prompts, images), feed, draws, ranks),
                stepper=Stepper(learner, objective, draws, ranks),
                tasks=(save, sample),
                recorder=recorder,
                progress=out.progress,
                ranks=ranks,
            ).run(start, train.steps, stop)

    def _make_saver(self, learner: Learner, plan: BatchPlan, resume: ResumePlan) -> Saver:
        model = learner.model
        base_weights = BaseWeights(
            self.job.redact(published_name(self.config.model.name_or_path)), model.fingerprint("transformer")
        )
        facts = replace(self._facts(), device=device_name(model.device))
        if self.record is not None:
            place = str(resume.bundle.folder) if resume.bundle else None
            self.record.resumed(resume.step, bundle=place, device=facts.device)
        return Saver(
            self.output_folder,
            self.job.name,
            self.config.save,
            learner,
            facts=facts,
            metadata=lambda step: self._metadata(model, step, plan, base_weights),
        )

    def _make_sampler(self, learner: Learner, prompts: PromptEncoder) -> Sampler:
        settings = SampleSettings(
            items=sample_items(self.config),
            first_items=sample_items(self.config, first=True),
            rules=reference_rules(self.config, learner.model.card),
            reference_background=self.config.datasets[0].control_transparent_color,
            format=self.config.sample.format,
            first_format=(self.config.first_sample or self.config.sample).format,
        )
        return Sampler(learner, prompts, settings, folder=self.output_folder / "samples")

    @property
    def _examples(self) -> tuple[Example, ...]:
        return self.checked.scan.examples

    def _facts(self) -> RunFacts:
        """What bundles say of this run."""
        return run_facts(self.checked.start, self.checked.scan)

    def _metadata(self, model: BaseModel, step: int, plan: BatchPlan, base_weights: BaseWeights) -> dict[str, str]:
        return file_metadata(
            job_name=self.job.name,
            step=step,
            epoch=plan.epochs_done(step),
            base_model=model.get_base_model_version(),
            trigger_word=self.job.redact(self.config.trigger_word or ""),
            meta=self.job.redacted(dict(self.job.meta)),
            base_weights=base_weights,
            network=self.config.network,
            settings=self.config.train.model_dump(mode="json", exclude_defaults=True)
            | {"seed": self.config.training_seed, "num_examples": len(self._examples)},
        )


class _Encoder(Protocol[T_contra]):
    def add(self, item: T_contra, /, *, folder: Path | None) -> bool: ...


def _encode_all(
    encoder: _Encoder[T], items: Iterable[tuple[T, Path | None]], stage: EncodeStage, out: Output, stop: StopRequest
) -> None:
    """Encode what is not cached, each into its folder."""
    num_new = 0
    for item, folder in items:
        if stop.requested:
            raise Interrupted(stage.stopped)
        num_new += encoder.add(item, folder=folder)
    out.stages.tell(f"{num_new} {stage.counted} encoded" if num_new else f"all {stage.counted} were cached")
