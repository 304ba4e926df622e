"""The staged plan of a training run, top to bottom: check, encode text, encode images, train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from jobs.process.BaseProcess import BaseProcess
from jobs.process.output import Output, open_output
from jobs.process.start import Start
from jobs.process.train_stage import TrainStage
from jobs.process.training_check import TrainingChecked, check_training, run_facts
from toolkit.config import TrainingProcessConfig
from toolkit.dtypes import torch_dtype
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.encode.storage import LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, cache_folder
from toolkit.errors import Interrupted
from toolkit.files import sweep_temporary
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.output.bundles import step_folders
from toolkit.parallel.ranks import OneProcess, Ranks
from toolkit.plan.stage_list import ENCODE_IMAGES, ENCODE_TEXT, TRAIN, EncodeStage, Stage
from toolkit.randomness import Draws
from toolkit.stop import StopRequest
from toolkit.train.feeder import Encoded
from toolkit.train.finished import describe_end, is_finished
from toolkit.train.learner import Learner, build_learner
from toolkit.train.precision import make_current, pick_device
from toolkit.train.resume import make_way, plan_resume
from toolkit.train.task import finish_retention
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
        checked, config, ranks = self.checked, self.config, OneProcess()
        facts = run_facts(checked.start, checked.scan)
        stop.grace_s = config.save.term_grace_s
        resume = plan_resume(self.output_folder, checked.start.resume, facts, is_thorough=True)
        self._sweep()
        made_way = make_way(resume, self.output_folder)
        plan = checked.memory.plan if checked.memory else None
        with open_output(checked.start, plan, lambda: str(pick_device(config.device))) as out:
            if made_way is not None:
                out.stages.warn(made_way)
            if is_finished(resume, facts, self.output_folder):
                for line in (*resume.notices, *describe_end(resume, config.train.steps)):
                    out.stages.tell(line)
                finish_retention(self.output_folder, config.save, resume.step, out.stages)
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
                learner, encoded = self._learner(model, out, ranks), Encoded(prompts, images)
                TrainStage(checked, learner, encoded, out, self.record, ranks).run(resume, stop)
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

    def _learner(self, model: BaseModel, out: Output, ranks: Ranks) -> Learner:
        """The loaded model, ready for its first step."""
        train, draws = self.config.train, Draws(self.config.training_seed)
        weights = self.make_trainable(model, draws)
        out.stages.tell(weights.describe())
        if train.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        assert model.transformer is not None
        model.transformer.train()
        return build_learner(model, weights, train, draws=draws, ranks=ranks)


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
