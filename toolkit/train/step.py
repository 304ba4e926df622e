"""One optimizer step on one screen: the losses and backward passes of each batch, then the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from toolkit.memory.host import release_memory
from toolkit.objectives.batch import Batch
from toolkit.objectives.loss_groups import LossGroups
from toolkit.objectives.objective import Objective
from toolkit.parallel.agreement import require_equal_weights
from toolkit.parallel.ranks import Ranks
from toolkit.randomness import Draws
from toolkit.train.learner import Learner
from toolkit.train.prediction import Prediction


@dataclass(frozen=True)
class StepResult:
    """The result of a step. Tensors stay on the device, so that nothing here waits for it.

    Attributes:
        terms: name -> loss term, averaged over the step's samples.
        grad_norm: norm of the whole gradient before clipping.
        lr: learning rate of the update.
        groups: losses by noise and dataset.
    """

    terms: Mapping[str, Tensor]
    grad_norm: Tensor
    lr: float
    groups: LossGroups = field(default_factory=lambda: LossGroups(()))

    @property
    def loss(self) -> Tensor:
        """The sum of the terms, which is what is minimised."""
        return total(self.terms)


class Stepper:
    """Takes steps. It knows nothing of files, samples or progress.

    Args:
        learner: the model with its trained weights and optimizer.
        objective: the objective to minimise.
        draws: the job's random draws.
        ranks: the processes that train together.
        datasets: names of the datasets whose losses are distinguished.
    """

    def __init__(
        self, learner: Learner, objective: Objective, draws: Draws, ranks: Ranks, *, datasets: Sequence[str] = ()
    ) -> None:
        self.learner = learner
        self.objective = objective
        self.draws = draws
        self.ranks = ranks
        self.datasets = datasets
        self._is_updating = False

    def train_step(self, step: int, batches: Sequence[Batch], *, num_samples: int | None = None) -> StepResult:
        """Make one update from all of `batches`; the gradient is the mean over the samples of all ranks.

        Args:
            step: number of updates done before this one.
            batches: this rank's batches: one, or as many as gradients are accumulated over.
            num_samples: number of samples in the batches of all ranks; None: `batches` are all there are.
        """
        num_samples = num_samples or sum(len(batch.latents) for batch in batches)
        lr = self.learner.schedule(step)
        sums: dict[str, Tensor] = {}
        groups = LossGroups(self.datasets)
        self._is_updating = not self.learner.update.waits
        self.learner.update.begin(step, lr=lr)
        for batch in batches:
            predict, of_samples = self._predict(batch), torch.zeros_like(batch.loss_weight)
            for terms in self.objective.losses(batch, predict, self.draws):  # {"velocity": [B], ...}
                means = {name: (term * batch.loss_weight).sum() / num_samples for name, term in terms.items()}
                total(means).backward()
                sums |= {name: sums.get(name, 0) + mean.detach() for name, mean in means.items()}
                of_samples = of_samples + total(terms).detach() * batch.loss_weight
            if predict.sigma is not None:
                groups.add(batch, of_samples, predict.sigma)
        self.ranks.sum_tensors([*sums.values(), *([] if groups.sums is None else [groups.sums])])
        self._is_updating = True
        grad_norm = self.learner.update.finish(step)
        for average in self.learner.averages.values():
            average.update(step)
        return StepResult(sums, grad_norm, lr, groups)

    @property
    def can_repeat(self) -> bool:
        """Whether a failed step can be retried as if it had not been tried.

        Not if weights may have changed, other ranks wait in the middle of it, or blocks are on their way to the card.
        """
        is_streamed = self.learner.model.loader.describe("transformer") is not None
        return not self._is_updating and self.ranks.world == 1 and not is_streamed

    def forget(self) -> None:
        """Free what a failed step has left behind, on the device too."""
        self.learner.optimizer.zero_grad(set_to_none=True)
        release_memory()

    def require_equal_ranks(self) -> None:
        """Make sure that the trained weights are the same on all ranks, if each of them holds all.

        Raises:
            UserError: they are not, though all ranks make the same updates.
        """
        if self.learner.model.layout.is_whole:
            require_equal_weights(self.ranks, [parameter for _, parameter in self.learner.weights.named_parameters()])

    def _predict(self, batch: Batch) -> Prediction:
        return Prediction(
            self.learner.model,
            self.learner.weights,
            self.draws,
            index=batch.index,
            num_tokens=batch.num_tokens,
            strength=batch.network_weight,
        )


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of all terms."""
    return reduce(torch.add, terms.values())
