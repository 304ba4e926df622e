"""How the ranks of a run share its model: the weights, the sequences, both or nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from toolkit.config import TrainConfig
from toolkit.memory.sharded import shard
from toolkit.models.base_model import BaseModel
from toolkit.parallel.crew import Crew
from toolkit.parallel.ranks import Ranks


@dataclass(frozen=True)
class Sharing:
    """What the ranks share.

    Attributes:
        is_joint: whether every rank computes with what the others hold.
        alone: makes a `with` block in which this process computes whole sequences without the others.
        crew: who does the work between steps.
    """

    is_joint: bool = False
    alone: Callable[[], AbstractContextManager[None]] = nullcontext
    crew: Crew = field(default_factory=Crew)


def share(model: BaseModel, train: TrainConfig, ranks: Ranks) -> Sharing:
    """Prepare a loaded model for the ranks of its run, once everything that is trained is in place.

    Args:
        model: the model; its weights are sharded if they were loaded so.
        train: the job's `train` section.
        ranks: the processes of the run.

    Raises:
        UserError: the transformer's attention heads cannot be divided among so many processes.
    """
    is_spread = not model.layout.is_whole
    sharing = Sharing(is_joint=is_spread, crew=Crew(ranks, is_joint=is_spread))
    if train.context_parallel > 1 and ranks.world > 1:
        from toolkit.models.context_parallel import ContextParallel  # loads parts of torch that few runs need

        shared = ContextParallel(model.transformer, ranks, train.context_parallel, model.device)
        sharing = replace(sharing, is_joint=True, alone=shared.paused)
    if is_spread:
        shard(model.transformer, model.list_blocks(model.transformer), model.layout)
    return sharing
