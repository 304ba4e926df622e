"""The staged plan of a training run, top to bottom: check, encode text, encode images, train."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from jobs.process.BaseProcess import BaseProcess
from jobs.process.inputs import (
    LATENT_CACHE,
    OVERFLOW_CACHE,
    TEXT_CACHE,
    cache_folder,
    captions,
    needs_vae,
    reference_rules,
    sample_items,
)
from jobs.process.memory import plan_memory
from jobs.process.training_check import check_disk, check_training
from toolkit.config import TrainingProcessConfig
from toolkit.data.batches import BatchPlan
from toolkit.data.dataset_hashes import fingerprint
from toolkit.data.examples import Example
from toolkit.data.scan_result import Scan
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.errors import Interrupted
from toolkit.files import sweep_temporary, write_text
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.objectives.choices import OBJECTIVES
from toolkit.output.bundles import step_folders
from toolkit.output.events import EventLog
from toolkit.parallel.ranks import OneProcess
from toolkit.plan.auto import with_settings
from toolkit.plan.memory_check import MemoryCheck
from toolkit.plan.out_of_memory import explained
from toolkit.progress import Progress
from toolkit.randomness import Draws
from toolkit.stop import StopRequest
from toolkit.train.feeder import Encoded, Feeder, FeedSettings
from toolkit.train.learner import Learner, build_learner
from toolkit.train.loop import Loop
from toolkit.train.metadata import BaseWeights, file_metadata, published_name
from toolkit.train.precision import device_name, make_current, pick_device
from toolkit.train.recorder import Recorder
from toolkit.train.resume import ResumePlan, RunFacts, describe_resume, plan_resume
from toolkit.train.sampling import Sampler, SampleSettings
from toolkit.train.saver import Saver
from toolkit.train.stages import Stages
from toolkit.train.step import Stepper
from toolkit.train.task import SampleTask, SaveTask
from toolkit.train.trainable import TrainableWeights
from toolkit.util.get_model import get_model_class
from toolkit.weights.dtypes import DTYPES


class BaseSDTrainProcess(BaseProcess):
    """Trains a model on images with captions. A subclass says what is trained (`make_trainable`)."""

    config: TrainingProcessConfig
    _scan: Scan | None = None
    _memory: MemoryCheck | None = None

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """The weights that the optimizer changes. The transformer has been loaded."""
        raise NotImplementedError

    def check(self) -> list[str]:
        """See BaseProcess.check: reads every image once, and the manifest of the checkpoint to go on from."""
        self._scan, lines = check_training(self.job, self.config, self.output_folder)
        model = self._make_model("cpu")
        model.check_files()
        num_weights = model.count_local_weights()
        memory = self._check_memory(model, num_weights)  # may choose settings, which a checkpoint is compared with
        plan = self._memory.plan if self._memory else None
        disk = check_disk(
            self.config, model.card, self._examples, self.output_folder, num_weights=num_weights, plan=plan
        )
        resume = plan_resume(self.output_folder, self.resume, self._facts(), is_thorough=False)
        return [*lines, *(f"  {line}" for line in (*disk, *memory, *describe_resume(resume)))]

    def _check_memory(self, model: BaseModel, num_weights: int | None) -> list[str]:
        """Lines of the memory plan. What `model.memory: auto` chooses is settings of this run from here on."""
        plan = plan_memory(
            self.config,
            model.card,
            self._examples,
            self.output_folder,
            vram_gb=self.job.vram_gb,
            num_weights=num_weights,
            num_assistant_weights=model.count_assistant_weights(),
        )
        if isinstance(plan, str):
            return [plan]
        self._memory = plan
        if plan.settings:
            self.config = self.config.model_copy(update={"model": with_settings(self.config.model, plan.settings)})
            self.job = self.job.with_model_settings(self.process_id, plan.settings)
        return list(plan.lines)

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run: the stages one after another, each loading what it needs and freeing it."""
        if self._scan is None:
            self.check()
        stop.grace_s = self.config.save.term_grace_s
        resume = plan_resume(self.output_folder, self.resume, self._facts(), is_thorough=True)
        self._sweep()
        write_text(self.output_folder / "config.yaml", self.job.as_written())
        progress = Progress()
        with EventLog(self.output_folder / "events.jsonl") as events:
            events.write("job", name=self.job.name, arch=self.config.model.arch, steps=self.config.train.steps)
            plan = self._memory.plan if self._memory else None
            predicted = plan.stage_peaks() if plan else {}
            stages = Stages(events, progress, redact=self.job.redact, predicted=predicted)
            try:
                with explained(plan, str(pick_device(self.config.device)), lambda: stages.current):
                    self._run_stages(stages, resume, stop)
            finally:
                progress.close()
                for line in stages.report():
                    progress.message(line)
            events.write("done")

    def _sweep(self) -> None:
        """Delete what killed runs left half-written, in the caches too."""
        own = self.output_folder
        folders = {own, own / "samples", own / OVERFLOW_CACHE, *step_folders(own)}
        caches = (LATENT_CACHE, TEXT_CACHE)
        folders |= {cache_folder(dataset, name, own) for dataset in self.config.datasets for name in caches}
        for folder in sorted(folders):
            sweep_temporary(folder)

    def _run_stages(self, stages: Stages, resume: ResumePlan, stop: StopRequest) -> None:
        config = self.config
        model = self._make_model(config.device, notify=stages.tell)
        make_current(model.device)
        model.check_access()
        encodings = Encodings(stages.warn, overflow=self.output_folder / OVERFLOW_CACHE)
        with stages.stage("encode text"), stop.ends_at_once("Stopped while encoding captions, before the first step."):
            prompts = self._encode_text(model, encodings, stages, stop)
            model.free("text_encoder")
        with stages.stage("encode images"), stop.ends_at_once("Stopped while encoding images, before the first step."):
            images = self._encode_images(model, encodings, stages, stop)
            if not needs_vae(config):
                model.free("vae")
        with stages.stage("train"):
            with stop.ends_at_once("Stopped while loading the model, before the first step."):
                if needs_vae(config):
                    model.load("vae")
                model.load("transformer")
            if (offloading := model.loader.describe("transformer")) is not None:
                stages.tell(offloading)
            self._train(model, prompts, images, stages, resume, stop)
        encodings.remove_overflow()

    def _make_model(self, device: str, *, notify: Callable[[str], None] = print) -> BaseModel:
        config, train, shares = self.config, self.config.train, None
        if self._memory is not None:
            inputs = self._memory.plan.inputs
            shares = {"transformer": inputs.offloaded, "text_encoder": inputs.te_offloaded}
        trained_dtype = DTYPES["fp32" if train.full_finetune_weights == "fp32" else "bf16"]
        options = ModelOptions(
            transformer_dtype=trained_dtype if config.network is None else None,
            notify=notify,
            offload_shares=shares,
        )
        model_class = get_model_class(config.model)
        return model_class(config.model, device=pick_device(device), dtype=DTYPES[train.dtype], options=options)

    def _encode_text(self, model: BaseModel, encodings: Encodings, stages: Stages, stop: StopRequest) -> PromptEncoder:
        """Encode every caption and sample prompt once."""
        fingerprint = model.fingerprint("text_encoder")
        prompts = PromptEncoder(model, encodings, fingerprint=fingerprint, warn=stages.warn, redact=self.job.redact)
        num_new = 0
        for text, folder in captions(self.config, self._examples, self.output_folder).items():
            if stop.requested:
                raise Interrupted("Stopped while encoding captions, before the first step.")
            num_new += prompts.add(text, folder=folder)
        for item in (*sample_items(self.config, first=True), *sample_items(self.config)):
            num_new += sum(prompts.add(text, folder=None) for text in model.prompts_of(item))
        stages.tell(f"{num_new} texts encoded" if num_new else "all texts were cached")
        return prompts

    def _encode_images(self, model: BaseModel, encodings: Encodings, stages: Stages, stop: StopRequest) -> ImageEncoder:
        """Encode every image once, unless it is cropped anew each time."""
        backgrounds = [dataset.background_color for dataset in self.config.datasets]
        images = ImageEncoder(model, encodings, fingerprint=model.fingerprint("vae"), backgrounds=backgrounds)
        num_new = 0
        for example in self._examples:
            if stop.requested:
                raise Interrupted("Stopped while encoding images, before the first step.")
            dataset = self.config.datasets[example.dataset_index]
            folder = cache_folder(dataset, LATENT_CACHE, self.output_folder) if dataset.cache_latents_to_disk else None
            own = () if example.random_crop else (example,)
            num_new += sum(images.add(picture, folder=folder) for picture in (*own, *example.references))
        stages.tell(f"{num_new} images encoded" if num_new else "all images were cached")
        return images

    def _train(
        self,
        model: BaseModel,
        prompts: PromptEncoder,
        images: ImageEncoder,
        stages: Stages,
        resume: ResumePlan,
        stop: StopRequest,
    ) -> None:
        """Put the parts of the loop together and run it."""
        config, train, draws, ranks = self.config, self.config.train, Draws(self.config.training_seed), OneProcess()
        weights = self.make_trainable(model, draws)
        stages.tell(weights.describe())
        if train.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        assert model.transformer is not None
        model.transformer.train()
        learner = build_learner(model, weights, train, draws=draws, ranks=ranks)
        objective = OBJECTIVES["velocity"].load().from_config(train)
        plan = BatchPlan(self._examples, train.batch_size, draws)
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
        log_dir = config.log_dir / f"{self.job.name}_{time.strftime('%Y%m%d-%H%M%S')}" if config.log_dir else None
        with Recorder(stages.events, stages.progress, log_dir=log_dir, log_every=config.logging.log_every) as recorder:
            start = save.resume(resume, train.steps)
            Loop(
                feeder=Feeder(model, plan, Encoded(prompts, images), feed, draws, ranks),
                stepper=Stepper(learner, objective, draws, ranks),
                tasks=(save, sample),
                recorder=recorder,
                progress=stages.progress,
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
        assert self._scan is not None, "check comes before run"
        return self._scan.examples

    def _facts(self) -> RunFacts:
        """What bundles say of this run."""
        return RunFacts(
            self.job.name,
            self.job.redacted(self.config.model_dump(mode="json")),
            fingerprint(self._examples, [dataset.folder_path for dataset in self.config.datasets]),
            kind=type(self.config),
        )

    def _metadata(self, model: BaseModel, step: int, plan: BatchPlan, base_weights: BaseWeights) -> dict[str, str]:
        return file_metadata(
            job_name=self.job.name,
            step=step,
            epoch=step * self.config.train.gradient_accumulation // plan.batches_per_epoch,
            base_model=model.get_base_model_version(),
            trigger_word=self.job.redact(self.config.trigger_word or ""),
            meta=self.job.redacted(dict(self.job.meta)),
            base_weights=base_weights,
            network=self.config.network,
            settings=self.config.train.model_dump(mode="json", exclude_defaults=True)
            | {"seed": self.config.training_seed, "num_examples": len(self._examples)},
        )
