"""Context parallelism: several processes share each sequence, through the plan that diffusers has for its models.

Each process holds some of the tokens. For attention, they exchange them for some of the heads of all tokens, and back
(Ulysses: Jacobs et al. 2023, arXiv 2309.14509).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import ContextParallelConfig
from diffusers.hooks import apply_context_parallel
from diffusers.hooks.context_parallel import remove_context_parallel
from torch.distributed.device_mesh import init_device_mesh

from toolkit.errors import UserError
from toolkit.networks.dropout import SHARE, TokenShare
from toolkit.parallel.ranks import Ranks
from toolkit.parallel.token_exchange import forward_derivatives


class ContextParallel:
    """A diffusers transformer whose sequences are shared by groups of processes.

    Args:
        transformer: the transformer, with everything that is trained on it.
        ranks: all processes of the run; they must all make one.
        size: number of processes that share a sequence.
        device: the device of this process.

    Raises:
        UserError: the transformer's attention heads cannot be divided among so many.
    """

    def __init__(self, transformer: Any, ranks: Ranks, size: int, device: torch.device) -> None:
        heads = transformer.config.num_attention_heads
        if heads % size:
            raise UserError(f"train.context_parallel: {size} does not divide the {heads} attention heads of the model.")
        ranks.barrier()  # the processes have met
        names = ("group", "ring", "ulysses")
        mesh = init_device_mesh(device.type, (ranks.world // size, 1, size), mesh_dim_names=names)
        self.transformer = transformer
        self.config = ContextParallelConfig(ulysses_degree=size, mesh=mesh["ring", "ulysses"])
        with _countable_devices():
            transformer.enable_parallelism(config=self.config)
        self._position = ranks.rank % size
        self._is_paused = False
        self._pass = ExitStack()
        transformer.register_forward_pre_hook(self._begin_pass, with_kwargs=True)
        transformer.register_forward_hook(self._end_pass, always_call=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the `with` block, this process computes whole sequences alone."""
        processors = {module: module.processor for module in self.transformer.modules() if _is_split(module)}
        shared = {module: processor._parallel_config for module, processor in processors.items()}
        remove_context_parallel(self.transformer, self.transformer._cp_plan)
        for processor in processors.values():
            processor._parallel_config = None
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False
            for module, processor in processors.items():
                processor._parallel_config = shared[module]
            apply_context_parallel(self.transformer, self.config, self.transformer._cp_plan)

    def _begin_pass(self, _: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not self._is_paused:
            text, image = named["encoder_hidden_states"], named["hidden_states"]  # still whole
            share = TokenShare(self._position, self.config.ulysses_degree, text.shape[1], image.shape[1])
            self._pass.enter_context(SHARE.set(share))
            if torch._C._are_functorch_transforms_active():  # within torch.func.jvp
                self._pass.enter_context(forward_derivatives())

    def _end_pass(self, *_: Any) -> None:
        self._pass.close()


def _is_split(module: Any) -> bool:
    return getattr(getattr(module, "processor", None), "_parallel_config", None) is not None


@contextmanager
def _countable_devices() -> Iterator[None]:
    """diffusers divides by the number of accelerators, and there is none on a CPU."""
    counted = torch.accelerator.device_count
    if counted() == 0:
        setattr(torch.accelerator, "device_count", lambda: 1)  # noqa: B010 - mypy does not let functions be assigned
    try:
        yield
    finally:
        setattr(torch.accelerator, "device_count", counted)  # noqa: B010
