"""The stages of a training run, top to bottom: check, encode text, encode images, train."""

from __future__ import annotations

from jobs.ending import end_again, publish
from jobs.process.BaseProcess import BaseProcess
from jobs.process.encode_stages import encode_all
from jobs.process.make_model import choose_kernel, compile_if_asked, make_model
from jobs.process.output import Output, open_output
from jobs.process.start import Start
from jobs.process.train_stage import TrainStage
from jobs.process.training_check import check_training
from jobs.process.training_checked import TrainingChecked
from toolkit.config import TrainingProcessConfig
from toolkit.encode.leftovers import remove_overflow, sweep_half_written
from toolkit.models.base_model import BaseModel
from toolkit.parallel.ranks import done_by_first
from toolkit.plan.stage_list import TRAIN
from toolkit.randomness import Draws
from toolkit.runtime.stop import StopRequest
from toolkit.train.finished import describe_end, is_finished
from toolkit.train.learner import Learner, build_learner, try_if_class
from toolkit.train.resume import move_unowned_aside, plan_resume
from toolkit.train.trainable import TrainableWeights


class BaseSDTrainProcess(BaseProcess):
    """Trains a model on images with captions. A subclass decides what is trained (`make_trainable`)."""

    checked: TrainingChecked
    works_in_ranks = True

    @property
    def config(self) -> TrainingProcessConfig:
        """The settings of this process."""
        return self.checked.config

    def make_trainable(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        """The weights that the optimizer will change. Called once the transformer has been loaded."""
        raise NotImplementedError

    @classmethod
    def check(cls, start: Start) -> TrainingChecked:
        """See BaseProcess.check."""
        return check_training(start)

    def run(self, stop: StopRequest) -> None:
        """See BaseProcess.run. Runs the stages in order; each loads what it needs and frees it afterwards."""
        checked, config, ranks = self.checked, self.config, self.checked.start.ranks
        facts = checked.run_facts()
        stop.grace_s = config.save.term_grace_s
        resume = plan_resume(self.output_folder, checked.start.resume, facts, is_thorough=True)
        ranks.barrier()  # every rank has read the folder before anything in it is moved
        done_by_first(ranks, lambda: sweep_half_written(config, self.output_folder))
        notice = done_by_first(ranks, lambda: move_unowned_aside(resume, self.output_folder))
        plan = checked.memory.plan if checked.memory else None
        with open_output(checked.start, plan, run=self.record.run if self.record else None) as out:
            if notice is not None:
                out.stages.warn(notice)
            if is_finished(resume, facts, self.output_folder):
                for line in (*resume.notices, *describe_end(resume, config.train.steps)):
                    out.stages.info(line)
                done_by_first(ranks, lambda: end_again(checked, resume.step, out))
                return
            model = make_model(checked, notify=out.stages.info, count=out.stages.count)
            try_if_class(config.train, model.device)
            twin = None if checked.twin is None else model.beside(checked.twin)
            model.check_access()
            if twin is not None:
                twin.check_access()
            facts.require_equal_ranks(ranks, base_weights=model.fingerprint("transformer"), bundle=resume.bundle)
            for encoder in {view.encoder for view in checked.needs.views}:
                encoder.check_reachable()
            encoded = encode_all(checked, model, out, stop)
            with out.stages.stage(TRAIN.name):
                with stop.ends_at_once(TRAIN.stopped):
                    self._load(model, out)
                    choose_kernel(checked, model, out, resume)
                learner = self._learner(model, out)
                TrainStage(checked, learner, encoded, out, self.record, twin).run(resume, stop)
            done_by_first(ranks, lambda: publish(checked, out))
            ranks.barrier()
            if ranks.local_rank == 0:  # on each machine, which may have a folder of its own
                remove_overflow(self.output_folder)

    def _load(self, model: BaseModel, out: Output) -> None:
        """Load the components that training needs."""
        for resident in self.checked.needs.resident:
            model.load(resident.component)
        model.load("transformer")
        if (offloading := model.loader.describe("transformer")) is not None:
            out.stages.info(offloading)

    def _learner(self, model: BaseModel, out: Output) -> Learner:
        """The loaded model, ready for its first step."""
        train, draws = self.config.train, Draws(self.config.training_seed)
        weights = self.make_trainable(model, draws)
        out.stages.info(weights.describe())
        keeps = self.checked.memory.plan.inputs.keeps if self.checked.memory else 1.0
        out.stages.info(model.prepare_backward(recomputes=train.gradient_checkpointing, keeps=keeps))
        compile_if_asked(self.checked, model, out)
        assert model.transformer is not None
        model.transformer.train()
        return build_learner(model, weights, train, draws=draws, ranks=self.checked.start.ranks)
