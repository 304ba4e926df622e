"""The staged plan of a training run, top to bottom: check, encode text, encode images, train."""

from __future__ import annotations

import os
import time
from pathlib import Path

from jobs.process.BaseProcess import BaseProcess
from toolkit.cards import ModelCard, find_cards
from toolkit.config import DatasetConfig, SampleItem
from toolkit.config.capabilities import beyond_the_model
from toolkit.data.batches import BatchPlan
from toolkit.data.examples import Example
from toolkit.data.references import ReferenceRules, measure_references
from toolkit.data.report import describe_scan
from toolkit.data.scan import scan_datasets
from toolkit.data.scan_result import Scan
from toolkit.disk import check_output_folder, needed_bytes
from toolkit.errors import Interrupted, JobError, Problem, UserError
from toolkit.events import EventLog
from toolkit.files import sweep_temporary, write_text
from toolkit.memory.auto import with_settings
from toolkit.memory.check import MemoryCheck, check_memory
from toolkit.memory.report import gigabytes
from toolkit.models.base_model import BaseModel
from toolkit.progress import Progress
from toolkit.randomness import Draws
from toolkit.stop import StopRequest
from toolkit.train.ema import ExponentialMovingAverage
from toolkit.train.encode import Encodings, ImageEncoder, PromptEncoder
from toolkit.train.encoded_size import captions_bytes, describe_captions, overflow_bytes
from toolkit.train.feeder import Feeder
from toolkit.train.loop import Loop
from toolkit.train.metadata import BaseWeights, file_metadata, published_name
from toolkit.train.optimizers import build_optimizer
from toolkit.train.precision import pick_device
from toolkit.train.recorder import Recorder
from toolkit.train.sampling import Sampler
from toolkit.train.saver import Saver
from toolkit.train.stages import Stages
from toolkit.train.step import Stepper
from toolkit.train.trained import Trained
from toolkit.train.weight_update import build_update
from toolkit.train.workload import latents_on_disk, measure_workload
from toolkit.util.get_model import get_model_class
from toolkit.weights.dtypes import DTYPES

LATENT_CACHE, TEXT_CACHE, OVERFLOW_CACHE = "_latent_cache", "_t_e_cache", "_overflow_cache"


class BaseSDTrainProcess(BaseProcess):
    """Trains a model on images with captions. A subclass says what is trained (`make_trained`)."""

    _scan: Scan | None = None
    _memory: MemoryCheck | None = None

    def make_trained(self, model: BaseModel, draws: Draws) -> Trained:
        """What the optimizer changes. The transformer has been loaded."""
        raise NotImplementedError

    # Check: no weights are read, nothing is written

    def check(self) -> list[str]:
        """See BaseProcess.check: reads every image once."""
        train, card = self.config.train, find_cards()[self.config.model.arch]
        scan = scan_datasets(
            self.config.datasets,
            divisor_px=card.divisor_px,
            trigger_word=self.config.trigger_word,
            reg_weight=train.reg_weight,
            rules=self._reference_rules(card),
        )
        problems = [*beyond_the_model(self.config, card), *scan.problems, *self._sample_problems(card)]
        if problems:
            raise JobError(str(self.job.path), problems)
        self._check_multipliers()
        self._make_model("cpu").check_files()
        self._scan = scan
        captions, shape = self._captions(), card.prompt_embeds_shape
        checkpoints = self._needed_bytes(card.num_parameters)
        check_output_folder(self.output_folder, needed=checkpoints + overflow_bytes(captions, shape))
        memory = [*self._check_memory(card), self._disk(card, checkpoints=checkpoints)]
        texts = describe_captions(captions, shape, overflow=self.output_folder / OVERFLOW_CACHE)
        what = "full fine-tune" if self.config.network is None else f"LoRA of rank {self.config.network.linear}"
        datasets = describe_scan(scan, batch_size=train.batch_size, gradient_accumulation=train.gradient_accumulation)
        samples = f", sample every {self.config.sample.sample_every}" if self._sample_items() else ""
        saves = f", save every {self.config.save.save_every}" if self.config.save.save_every else ""
        return [
            f"{self.job.name}: {what} of {card.label}, {train.steps} steps{samples}{saves} -> {self.output_folder}",
            *(f"  {line}" for line in (*datasets, texts, *scan.notices, *self._plan(), *memory)),
        ]

    def _check_memory(self, card: ModelCard) -> list[str]:
        """The lines of the memory plan. What `model.memory: auto` chooses is settings of this run from here on."""
        if card.size is None:
            return [f"memory: {card.label} does not say how large it is, so nothing is predicted"]
        items = (*self._sample_items(first=True), *self._sample_items())
        rules, captions = self._reference_rules(card), self._captions()
        work = measure_workload(card, self._examples, captions, items, rules=rules, keeps_vae=self._needs_vae())
        try:
            device = str(pick_device(self.config.device))
        except UserError:  # `_plan` says so
            device = None
        memory = check_memory(self.config, card.size, work, device=device, vram_gb=self.job.vram_gb)
        self._memory = memory
        if memory.settings:
            self.config = self.config.model_copy(update={"model": with_settings(self.config.model, memory.settings)})
            self.job = self.job.with_model_settings(self.process_id, memory.settings)
        return list(memory.lines)

    def _disk(self, card: ModelCard, *, checkpoints: int) -> str:
        """A line: what the run writes."""
        on_disk = sum(folder is not None for folder in self._captions().values())
        sizes = {
            "checkpoints": checkpoints,
            "latents": latents_on_disk(self._examples, self.config.datasets, card),
            "captions": captions_bytes(on_disk, card.prompt_embeds_shape),
        }
        return "disk, GB: up to " + ", ".join(f"{name} {gigabytes(size)}" for name, size in sizes.items() if size)

    def _reference_rules(self, card: ModelCard) -> ReferenceRules:
        match_target = self.config.model.model_kwargs.match_target_res
        return ReferenceRules(card.reference_limits, card.divisor_px, match_target=match_target)

    def _sample_problems(self, card: ModelCard) -> list[Problem]:
        items = (*self._sample_items(first=True), *self._sample_items())
        paths = dict.fromkeys(path for item in items for path in item.references)
        return measure_references(tuple(paths), card.reference_limits)[1]

    def _plan(self) -> list[str]:
        try:
            lines = [f"device: {pick_device(self.config.device)}"]
        except UserError as error:  # the job may be meant for another machine; a run says the same and stops
            lines = [f"warning: {error}"]
        lines.append("stages: encode text (text encoder), encode images (VAE), train (transformer); each is then freed")
        if self._sample_items():
            lines.append("the VAE stays loaded while training: samples are decoded with it")
        if any(dataset.control_folders for dataset in self.config.datasets):
            lines.append("reference images: encoded once, like the images; their tokens make steps longer")
        if any(dataset.random_crop for dataset in self.config.datasets):
            lines.append("random_crop: the VAE stays loaded and encodes every batch, so steps take longer")
        return lines

    def _check_multipliers(self) -> None:
        items = (*self._sample_items(), *self._sample_items(first=True))
        if self.config.network is None and any(item.network_multiplier != 1 for item in items):
            raise UserError("sample.network_multiplier: a full fine-tune has no network to multiply. Remove the key.")

    def _needed_bytes(self, num_parameters: int) -> int:
        train, save, network = self.config.train, self.config.save, self.config.network
        moments = 2 if train.optimizer == "adamw8bit" else 8
        average = 4 if train.ema_config and train.ema_config.use_ema else 0
        return needed_bytes(
            num_parameters=num_parameters,
            lora_rank=network.linear if network else None,
            dtype=save.dtype,
            num_kept=save.max_step_saves_to_keep,
            num_saves=train.steps // save.save_every if save.save_every else 1,
            bytes_per_state=4 + moments + average,
        )

    # Run

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run: the stages one after another, each loading what it needs and freeing it."""
        if self._scan is None:
            self.check()
        self.output_folder.mkdir(parents=True, exist_ok=True)
        sweep_temporary(self.output_folder)
        write_text(self.output_folder / "config.yaml", self.job.as_written())
        progress = Progress()
        with EventLog(self.output_folder / "events.jsonl") as events:
            events.write("job", name=self.job.name, arch=self.config.model.arch, steps=self.config.train.steps)
            stages = Stages(events, progress, predicted=self._memory.plan.stage_peaks() if self._memory else {})
            try:
                self._run_stages(stages, stop)
            finally:
                progress.close()
                for line in stages.report():
                    progress.message(line)
            events.write("done")

    def _run_stages(self, stages: Stages, stop: StopRequest) -> None:
        config = self.config
        model = self._make_model(config.device)
        encodings = Encodings(stages.warn, overflow=self.output_folder / OVERFLOW_CACHE)
        with stages.stage("encode text"):
            prompts = self._encode_text(model, encodings, stages, stop)
            model.free("text_encoder")
        with stages.stage("encode images"):
            images = self._encode_images(model, encodings, stages, stop)
            if not self._needs_vae():
                model.free("vae")
        with stages.stage("train"):
            if self._needs_vae():
                model.load("vae")
            if config.network is None:
                model.transformer_dtype = DTYPES["fp32" if config.train.full_finetune_weights == "fp32" else "bf16"]
            model.load("transformer")
            if (offloading := model.describe_offloading("transformer")) is not None:
                stages.tell(offloading)
            self._train(model, prompts, images, stages, stop)
        encodings.remove_overflow()

    def _make_model(self, device: str) -> BaseModel:
        model_class = get_model_class(self.config.model)
        model = model_class(self.config.model, device=pick_device(device), dtype=DTYPES[self.config.train.dtype])
        if self._memory is not None:
            inputs = self._memory.plan.inputs
            shares = {"transformer": inputs.offloaded, "text_encoder": inputs.te_offloaded}
            model.resolve_auto_offload = shares.__getitem__
        return model

    def _encode_text(self, model: BaseModel, encodings: Encodings, stages: Stages, stop: StopRequest) -> PromptEncoder:
        """Encode every caption and sample prompt once."""
        prompts = PromptEncoder(model, encodings, warn=stages.warn)
        num_new = 0
        for text, folder in self._captions().items():
            if stop.requested:
                raise Interrupted("Stopped while encoding captions, before the first step.")
            num_new += prompts.add([text], folder=folder)
        for item in (*self._sample_items(first=True), *self._sample_items()):
            num_new += prompts.add(model.prompts_of(item), folder=None)
        stages.tell(f"{num_new} texts encoded" if num_new else "all texts were cached")
        return prompts

    def _captions(self) -> dict[str, Path | None]:
        """Every distinct caption, and the cache folder that keeps its embeddings; None for memory."""
        use_captions = not self.config.train.unload_text_encoder
        captions: dict[str, Path | None] = {}
        for example in self._examples:
            dataset = self.config.datasets[example.dataset_index]
            on_disk = dataset.cache_text_embeddings or self.config.train.cache_text_embeddings
            folder = self._cache_folder(dataset, TEXT_CACHE) if on_disk else None
            for text in (example.caption, example.dropped_caption) if use_captions else (example.dropped_caption,):
                captions[text] = captions.get(text) or folder
        return captions

    def _encode_images(self, model: BaseModel, encodings: Encodings, stages: Stages, stop: StopRequest) -> ImageEncoder:
        """Encode every image once, unless it is cropped anew each time."""
        images = ImageEncoder(model, encodings, [dataset.background_color for dataset in self.config.datasets])
        num_new = 0
        for example in self._examples:
            if stop.requested:
                raise Interrupted("Stopped while encoding images, before the first step.")
            dataset = self.config.datasets[example.dataset_index]
            folder = self._cache_folder(dataset, LATENT_CACHE) if dataset.cache_latents_to_disk else None
            own = () if example.random_crop else (example,)
            num_new += sum(images.add(picture, folder=folder) for picture in (*own, *example.references))
        stages.tell(f"{num_new} images encoded" if num_new else "all images were cached")
        return images

    def _train(
        self, model: BaseModel, prompts: PromptEncoder, images: ImageEncoder, stages: Stages, stop: StopRequest
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
        base_weights = BaseWeights(published_name(config.model.name_or_path), model.fingerprint("transformer"))
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
                    items=self._sample_items(),
                    first_items=self._sample_items(first=True),
                    folder=self.output_folder / "samples",
                    rules=self._reference_rules(model.card),
                    reference_background=config.datasets[0].control_transparent_color,
                ),
                saver=Saver(
                    self.output_folder,
                    self.job.name,
                    config.save,
                    trained,
                    optimizer,
                    ema,
                    metadata=lambda step: self._metadata(model, step, plan, base_weights),
                ),
                recorder=recorder,
                stages=stages,
            ).run(stop)

    @property
    def _examples(self) -> tuple[Example, ...]:
        assert self._scan is not None, "check comes before run"
        return self._scan.examples

    def _sample_items(self, *, first: bool = False) -> tuple[SampleItem, ...]:
        if self.config.train.disable_sampling:
            return ()
        config = self.config.first_sample if first and self.config.first_sample else self.config.sample
        return config.items(self.config.trigger_word)

    def _needs_vae(self) -> bool:
        crops = any(dataset.random_crop for dataset in self.config.datasets)
        return crops or bool(self._sample_items()) or bool(self._sample_items(first=True))

    def _cache_folder(self, dataset: DatasetConfig, name: str) -> Path:
        """Beside the images, as in ai-toolkit; in the output folder where the images' folder cannot be written."""
        folder = dataset.folder_path if dataset.folder_path.is_dir() else dataset.folder_path.parent
        return folder / name if os.access(folder, os.W_OK) else self.output_folder / name

    def _metadata(self, model: BaseModel, step: int, plan: BatchPlan, base_weights: BaseWeights) -> dict[str, str]:
        return file_metadata(
            job_name=self.job.name,
            step=step,
            epoch=step * self.config.train.gradient_accumulation // plan.batches_per_epoch,
            base_model=model.get_base_model_version(),
            trigger_word=self.config.trigger_word,
            meta=self.job.meta,
            base_weights=base_weights,
            network=self.config.network,
            settings=self.config.train.model_dump(mode="json", exclude_defaults=True)
            | {"seed": self.config.training_seed, "num_examples": len(self._examples)},
        )
