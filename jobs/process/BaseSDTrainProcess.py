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
from toolkit.data.batches import BatchPlan
from toolkit.data.dataset_hashes import fingerprint
from toolkit.data.examples import Example
from toolkit.data.scan_result import Scan
from toolkit.encode.encoders import Encodings, ImageEncoder, PromptEncoder
from toolkit.errors import Interrupted
from toolkit.files import sweep_temporary, write_text
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.networks.network_check import check_network
from toolkit.optimizers.average import ExponentialMovingAverage
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.weight_update import build_update
from toolkit.output.bundles import step_folders
from toolkit.output.events import EventLog
from toolkit.plan.auto import with_settings
from toolkit.plan.memory_check import MemoryCheck
from toolkit.plan.out_of_memory import explained
from toolkit.progress import Progress
from toolkit.randomness import Draws
from toolkit.stop import StopRequest
from toolkit.train.feeder import Feeder
from toolkit.train.loop import Loop
from toolkit.train.metadata import BaseWeights, file_metadata, published_name
from toolkit.train.precision import device_name, make_current, pick_device
from toolkit.train.recorder import Recorder
from toolkit.train.resume import ResumePlan, RunFacts, describe_resume, plan_resume
from toolkit.train.sampling import Sampler
from toolkit.train.saver import Saver
from toolkit.train.stages import Stages
from toolkit.train.step import Stepper
from toolkit.train.trained import Trained
from toolkit.util.get_model import get_model_class
from toolkit.weights.dtypes import DTYPES


class BaseSDTrainProcess(BaseProcess):
    """Trains a model on images with captions. A subclass says what is trained (`make_trained`)."""

    _scan: Scan | None = None
    _memory: MemoryCheck | None = None

    def make_trained(self, model: BaseModel, draws: Draws) -> Trained:
        """What the optimizer changes. The transformer has been loaded."""
        raise NotImplementedError

    def check(self) -> list[str]:
        """See BaseProcess.check: reads every image once, and the manifest of the checkpoint to go on from."""
        self._scan, lines = check_training(self.job, self.config, self.output_folder)
        model = self._make_model("cpu")
        model.check_files()
        layers, notices = check_network(model, self.config, source=str(self.job.path))
        num_weights = model.count_local_weights()
        # May choose settings, which a checkpoint is compared with.
        memory = self._check_memory(model, num_weights, layers)
        plan = self._memory.plan if self._memory else None
        disk = check_disk(
            self.config,
            model.card,
            self._examples,
            self.output_folder,
            num_weights=num_weights,
            plan=plan,
            lora_sides=layers,
        )
        resume = plan_resume(self.output_folder, self.resume, self._facts(), is_thorough=False)
        return [*lines, *(f"  {line}" for line in (*notices, *disk, *memory, *describe_resume(resume)))]

    def _check_memory(self, model: BaseModel, num_weights: int | None, lora_sides: tuple[int, ...] | None) -> list[str]:
        """Lines of the memory plan. What `model.memory: auto` chooses is settings of this run from here on."""
        plan = plan_memory(
            self.config,
            model.card,
            self._examples,
            self.output_folder,
            vram_gb=self.job.vram_gb,
            num_weights=num_weights,
            num_assistant_weights=model.count_assistant_weights(),
            lora_sides=lora_sides,
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
            bypass_guidance_embedding=train.bypass_guidance_embedding,
        )
        model_class = get_model_class(config.model)
        return model_class(config.model, device=pick_device(device), dtype=DTYPES[train.dtype], options=options)

    def _encode_text(self, model: BaseModel, encodings: Encodings, stages: Stages, stop: StopRequest) -> PromptEncoder:
        """Encode every caption and sample prompt once."""
        prompts = PromptEncoder(model, encodings, warn=stages.warn, redact=self.job.redact)
        num_new = 0
        for text, folder in captions(self.config, self._examples, self.output_folder).items():
            if stop.requested:
                raise Interrupted("Stopped while encoding captions, before the first step.")
            num_new += prompts.add([text], folder=folder)
        for item in (*sample_items(self.config, first=True), *sample_items(self.config)):
            num_new += prompts.add(model.prompts_of(item), folder=None)
        stages.tell(f"{num_new} texts encoded" if num_new else "all texts were cached")
        return prompts

    def _encode_images(self, model: BaseModel, encodings: Encodings, stages: Stages, stop: StopRequest) -> ImageEncoder:
        """Encode every image once, unless it is cropped anew each time."""
        images = ImageEncoder(model, encodings, [dataset.background_color for dataset in self.config.datasets])
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
        config, train, draws = self.config, self.config.train, Draws(self.config.training_seed)
        trained = self.make_trained(model, draws)
        stages.tell(trained.describe())
        if train.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        assert model.transformer is not None
        model.transformer.train()
        parameters = [parameter for _, parameter in trained.named_parameters()]
        options = train.optimizer_params.model_dump(exclude_none=True)
        optimizer = build_optimizer(train.optimizer, parameters, lr=train.lr, options=options)
        update = build_update(
            optimizer,
            parameters,
            max_norm=train.max_grad_norm,
            weights=train.full_finetune_weights,
            fused=train.fused_backward_pass,
            draws=draws,
        )
        ema = None
        if train.ema_config is not None and train.ema_config.use_ema:
            ema = ExponentialMovingAverage(parameters, train.ema_config.ema_decay)
        plan = BatchPlan(self._examples, train.batch_size, draws)
        use_captions = not train.unload_text_encoder
        has_dropout = config.network is not None and config.network.dropout > 0
        base_weights = BaseWeights(
            self.job.redact(published_name(config.model.name_or_path)), model.fingerprint("transformer")
        )
        facts = replace(self._facts(), device=device_name(model.device))
        if self.record is not None:
            place = str(resume.bundle.folder) if resume.bundle else None
            self.record.resumed(resume.step, bundle=place, device=facts.device)
        log_dir = config.log_dir / f"{self.job.name}_{time.strftime('%Y%m%d-%H%M%S')}" if config.log_dir else None
        with Recorder(stages.events, stages.progress, log_dir=log_dir, log_every=config.logging.log_every) as recorder:
            Loop(
                train=train,
                save=config.save,
                feeder=Feeder(model, self._examples, plan, prompts, images, draws, use_captions=use_captions),
                stepper=Stepper(
                    model, parameters, optimizer, train, draws, ema=ema, has_dropout=has_dropout, update=update
                ),
                sampler=Sampler(
                    model,
                    trained,
                    ema,
                    prompts,
                    config=config.sample,
                    items=sample_items(config),
                    first_items=sample_items(config, first=True),
                    folder=self.output_folder / "samples",
                    rules=reference_rules(config, model.card),
                    reference_background=config.datasets[0].control_transparent_color,
                ),
                saver=Saver(
                    self.output_folder,
                    self.job.name,
                    config.save,
                    trained,
                    optimizer,
                    ema,
                    facts=facts,
                    metadata=lambda step: self._metadata(model, step, plan, base_weights),
                ),
                recorder=recorder,
                stages=stages,
                resume=resume,
            ).run(stop)

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
