"""The backward pass that a transformer's blocks have of their own, as a job asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from extensions_built_in.diffusion_models.lean.compiled import compiled_pieces
from extensions_built_in.diffusion_models.lean.forward import DeviceOf, LeanForward
from toolkit.compute.compiler import Compiler
from toolkit.memory.component_loader import ComponentLoader


class LeanBlocks:
    """See `toolkit.models.base_model.OwnBackward`.

    Args:
        transformer: the loaded transformer.
        attach: gives its blocks their lean forward, as `attach_lean` of a model's folder.
    """

    def __init__(self, transformer: Any, attach: Callable[..., list[LeanForward]]) -> None:
        self._transformer = transformer
        self._attach = attach

    def prepare(self, loader: ComponentLoader, *, recomputes: bool, keeps: float) -> str:
        """Decide what blocks keep for backward; a line for the user."""
        device_of: DeviceOf = loader.device_of
        blocks = self._attach(self._transformer, device_of, keeps=keeps if recomputes else 2.0)
        if recomputes:
            run = loader.checkpoint_function({lean.block: lean.takes for lean in blocks if not lean.is_run_again})
            self._transformer.enable_gradient_checkpointing(run)
        return describe(blocks, recomputes=recomputes)

    def compile(self, compiler: Compiler) -> None:
        """Let blocks compute with compiled pieces; tells how many, and why not others."""
        blocks = [module.forward for module in self._transformer.modules() if isinstance(module.forward, LeanForward)]
        for shared in {id(block.shared): block.shared for block in blocks}.values():
            shared.pieces = compiled_pieces(compiler, shared.pieces)
        for block in blocks:
            block.build()
        others = Counter(block.reason for block in blocks if block.reason is not None)
        num_compiled = len(blocks) - others.total()
        parts = [f"{num_compiled} are compiled", *(f"{count} are not, because {why}" for why, count in others.items())]
        tell = compiler.notify if num_compiled else compiler.warn
        tell(f"model.compile: of {len(blocks)} blocks, {'; '.join(parts)}")


def describe(blocks: Sequence[LeanForward], *, recomputes: bool) -> str:
    """One line: what the blocks do in the backward pass, and why some have autograd's."""
    lean = Counter(block.keeps for block in blocks if block.reason is None)
    others = Counter(block.reason for block in blocks if block.reason is not None)
    general = "are recomputed by autograd" if recomputes else "keep what autograd keeps"
    parts = [
        *(f"{lean[keeps]} {what}" for keeps, what in reversed(_KEPT.items()) if lean[keeps]),
        *(f"{count} {general}, because {why}" for why, count in others.items()),
    ]
    return f"backward pass: of {len(blocks)} blocks, {'; '.join(parts)}"


_KEPT = {0: "are recomputed as a whole", 1: "recompute their wide projections", 2: "keep all that they need"}
