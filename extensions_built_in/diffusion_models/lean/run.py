"""Runs a block's own forward and backward pass as one operation of autograd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.lean.attention import Attend, KeptAttention
from extensions_built_in.diffusion_models.lean.linear import LeanLinear
from extensions_built_in.diffusion_models.lean.lora import Lora
from extensions_built_in.diffusion_models.lean.pieces import cast
from toolkit.runtime.devices import linear_dtype, product_dtype


@dataclass
class Pass:
    """One pass of a block, from forward to backward.

    Attributes:
        frozen: of each of the block's linears, its frozen tensors.
        loras: of each of the block's linears, its LoRA.
        given: what the block is given besides its inputs, see the program.
        attend: the attention.
        read: the tokens of the output that are read; None for all of them.
        needs_input: whether a gradient of the inputs is wanted.
        kept: what is kept until backward.
        attention: the run of the attention kernel.
    """

    frozen: Sequence[Sequence[Tensor]]
    loras: Sequence[Lora | None]
    given: Sequence[Tensor]
    attend: Attend
    read: slice | None
    needs_input: bool
    kept: dict[str, Tensor] = field(default_factory=dict)
    attention: KeptAttention | None = None

    def keep(self, **tensors: Tensor | None) -> None:
        """Keep tensors until backward."""
        self.kept |= {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def forget(self) -> None:
        """Hold no tensors: between forward and backward, autograd does."""
        self.frozen, self.loras, self.given, self.kept = (), (), (), {}

    def attended(self, query: Tensor, key: Tensor, value: Tensor, *, dtype: torch.dtype) -> Tensor:
        """The attention's output, [B, n, heads, head size], in the dtype of the residual stream."""
        self.attention, output, saved = KeptAttention.run((query, key, value), self.attend)
        rounded = output.to(dtype)
        if rounded is not output:  # the kernel keeps its output, too: both are the rounded one
            whole = output.untyped_storage()._cdata
            for index, tensor in enumerate(saved):
                if tensor.untyped_storage()._cdata == whole:
                    saved[index] = rounded.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        self.keep(attended=rounded, **{f"attention {index}": tensor for index, tensor in enumerate(saved)})
        return rounded

    def attended_backward(self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """The gradients of queries, keys and values, each made again."""
        assert self.attention is not None
        rounded = self.kept["attended"].dtype
        saved = [tensor for name, tensor in self.kept.items() if name.startswith("attention")]
        saved = [tensor.to(query.dtype) if tensor.dtype == rounded else tensor for tensor in saved]
        return self.attention.backward(gradient.to(query.dtype), (query, key, value), saved)


class Program(Protocol):
    """A block's forward and backward pass.

    Attributes:
        linears: the block's linear layers.
        num_inputs: number of hidden states that the block takes and gives.
    """

    linears: Sequence[LeanLinear]
    num_inputs: int

    def forward(self, inputs: Sequence[Tensor], run: Pass) -> tuple[Tensor, ...]:
        """The outputs. What backward needs goes to `run.keep`."""
        ...

    def backward(
        self, gradients: Sequence[Tensor], run: Pass
    ) -> tuple[Sequence[Tensor | None], Sequence[Sequence[Tensor]]]:
        """The gradients of the inputs, and of what is trained at each linear, in the dtype of products."""
        ...


def run_lean(
    program: Program,
    inputs: Sequence[Tensor],
    given: Sequence[Tensor],
    attend: Attend,
    *,
    read: slice | None = None,
) -> tuple[Tensor, ...]:
    """Run a block of which an input or a LoRA needs a gradient. What it is given gets none.

    Args:
        program: the block.
        inputs: its hidden states, each [B, n, h].
        given: what the program needs besides.
        attend: attention over queries, keys and values, each [B, n, heads, head size].
        read: the tokens of the output that will be read, if the program can do with less; None for all.
    """
    frozen = [tensor for linear in program.linears for tensor in linear.frozen()]
    trained = [tensor for linear in program.linears for tensor in linear.trained()]
    outputs: tuple[Tensor, ...] = _Run.apply(program, attend, read, len(given), *inputs, *given, *frozen, *trained)
    return outputs


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, program: Program, attend: Attend, read: slice | None, num_given: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        inputs, given = tuple(islice(rest, program.num_inputs)), tuple(islice(rest, num_given))
        frozen = [tuple(islice(rest, linear.num_frozen)) for linear in program.linears]
        masters, device = tuple(rest), inputs[0].device.type
        dtype = product_dtype(inputs[0].device, linear_dtype(inputs[0]))
        scales = [linear.scales for linear in program.linears]
        with torch.autocast(device, enabled=False):
            run = Pass(
                frozen=frozen,
                loras=_loras(program, masters, dtype, scales),
                given=given,
                attend=attend,
                read=read,
                needs_input=any(ctx.needs_input_grad[4 : 4 + program.num_inputs]),
            )
            outputs = program.forward(inputs, run)
        flat = [tensor for tensors in frozen for tensor in tensors]
        ctx.save_for_backward(*given, *flat, *masters, *run.kept.values())
        ctx.dtype, ctx.scales = dtype, scales
        ctx.program, ctx.run, ctx.names, ctx.num_given = program, run, tuple(run.kept), num_given
        ctx.dtypes, ctx.shapes = [master.dtype for master in masters], [output.shape for output in outputs]
        ctx.set_materialize_grads(False)
        run.forget()
        return outputs

    @staticmethod
    def backward(ctx: Any, *found_gradients: Tensor | None) -> Any:
        program, run, saved = ctx.program, ctx.run, iter(ctx.saved_tensors)
        known = next(gradient for gradient in found_gradients if gradient is not None)
        gradients = [  # an output that nothing reads has none; zeros lie where the others do
            known.new_zeros(shape) if gradient is None else gradient
            for gradient, shape in zip(found_gradients, ctx.shapes, strict=True)
        ]
        run.given = tuple(islice(saved, ctx.num_given))
        run.frozen = [tuple(islice(saved, linear.num_frozen)) for linear in program.linears]
        masters = tuple(islice(saved, len(ctx.dtypes)))
        run.kept = dict(zip(ctx.names, saved, strict=True))
        with torch.autocast(gradients[0].device.type, enabled=False):
            run.loras = _loras(program, masters, ctx.dtype, ctx.scales)
            to_inputs, to_trained = program.backward(gradients, run)
            found = cast([gradient for own in to_trained for gradient in own], ctx.dtypes)
        num_frozen = sum(linear.num_frozen for linear in program.linears)
        run.forget()
        return None, None, None, None, *to_inputs, *(None for _ in range(ctx.num_given + num_frozen)), *found


def _loras(
    program: Program, masters: Sequence[Tensor], dtype: torch.dtype, scales: Sequence[Sequence[float]]
) -> list[Lora | None]:
    """The LoRA of each linear in the dtype of products, from what is trained."""
    tensors = iter(cast(masters, [dtype] * len(masters)))
    own = [list(islice(tensors, linear.num_trained)) for linear in program.linears]
    return [linear.lora(mine, scale) for linear, mine, scale in zip(program.linears, own, scales, strict=True)]
