"""Chooses the kernel of a transformer's attention: by the job, by its checkpoint, or by measuring once per GPU."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from toolkit.compute.attention_choices import AUTO, NATIVE, attention_refusal, possible_backends
from toolkit.compute.machine import Machine
from toolkit.errors import UserError
from toolkit.files import sha256_json, write_json

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_TOKENS_STEP = 512  # lengths are rounded up to it, so that runs of similar images share a measurement
_WARM_UP, _ROUNDS = 2, 5
_PREFIX = "_native_"  # of the kernels' names in diffusers


@dataclass(frozen=True)
class AttentionShape:
    """What decides which kernel is fastest, besides the GPU.

    Attributes:
        heads, head_size: sizes of the query.
        tokens: length of the longest sequence.
        dtype: of the query.
    """

    heads: int
    head_size: int
    tokens: int
    dtype: torch.dtype

    @property
    def rounded(self) -> int:
        """The length that is measured."""
        return -(-self.tokens // _TOKENS_STEP) * _TOKENS_STEP


@dataclass(frozen=True)
class ChosenAttention:
    """A kernel, and why it was chosen.

    Attributes:
        name: a key of `ATTENTION_BACKENDS`.
        why: the reason, for the user.
    """

    name: str
    why: str

    def describe(self) -> str:
        """One line for the user."""
        return f"attention: {self.name} ({self.why})"


def choose_attention(
    setting: str, shape: AttentionShape, machine: Machine, device: torch.device, *, folder: Path, recorded: str | None
) -> ChosenAttention:
    """The kernel of a run.

    Args:
        setting: the job's `model.attention_backend`.
        shape: the run's longest sequence.
        machine: what computes.
        device: the device that computes.
        folder: where measurements are remembered.
        recorded: the kernel that the checkpoint was written with, from which the run resumes; None if there is none.

    Raises:
        UserError: the machine has no such kernel for this shape; the message names those that it has.
    """
    refusal = attention_refusal(setting, machine)
    if refusal is not None:
        raise UserError(f"model.attention_backend: {refusal}.")
    if setting != AUTO:
        if not works(setting, shape, device):
            able = [name for name in possible_backends(machine) if works(name, shape, device)]
            raise UserError(
                f"model.attention_backend: {setting} cannot compute heads of {shape.head_size} in {shape.dtype} on "
                f"{machine.name}. It can: {', '.join((AUTO, *able))}."
            )
        before = "" if recorded in (None, setting) else f"; it was {recorded}: last digits of losses will differ"
        return ChosenAttention(setting, f"by model.attention_backend{before}")
    if recorded in possible_backends(machine) and works(str(recorded), shape, device):
        return ChosenAttention(str(recorded), "as before this start")
    gone = f"; the checkpoint's, {recorded}, does not work here" if recorded else ""
    if machine.kind != "cuda":
        return ChosenAttention(NATIVE, f"torch's choice on {machine.name}{gone}")
    return _fastest(shape, machine, device, folder, gone)


def works(name: str, shape: AttentionShape, device: torch.device) -> bool:
    """Whether a kernel computes such heads forward and backward, tried on a few tokens."""
    try:
        _run(name, *_inputs(shape, 64, device))
    except RuntimeError:
        return False
    return True


def measure(names: Sequence[str], shape: AttentionShape, device: torch.device) -> dict[str, float]:
    """Seconds that each of these kernels takes, forward and backward, without those that do not work or fit."""
    inputs, found = _inputs(shape, shape.rounded, device), {}
    for name in names:
        with contextlib.suppress(RuntimeError):
            seconds = []
            for _ in range(_WARM_UP + _ROUNDS):
                _wait(device)
                begin = time.perf_counter()
                _run(name, *inputs)
                _wait(device)
                seconds.append(time.perf_counter() - begin)
            found[name] = statistics.median(seconds[_WARM_UP:])
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def attend(query: Tensor, key: Tensor, value: Tensor, name: str) -> Tensor:
    """Attention with one kernel, over [B, n, heads, head size], without copies of what it gets."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))  # [B, heads, n, head size]
    with contextlib.nullcontext() if name == NATIVE else sdpa_kernel(KERNELS[name]):
        return scaled_dot_product_attention(q, k, v).transpose(1, 2)


def use_attention(transformer: nn.Module, name: str) -> None:
    """Let every attention layer of a diffusers transformer use a kernel, in training and in samples."""
    for module in transformer.modules():
        processor: Any = getattr(module, "processor", None)
        if processor is not None:
            processor._attention_backend = name if name == NATIVE else f"{_PREFIX}{name}"


def kernel_in(processor: Any) -> str | None:
    """The kernel that `use_attention` has set in a processor of diffusers; None for another choice, or none."""
    found = processor._attention_backend or ""
    return found.removeprefix(_PREFIX) if found.startswith(_PREFIX) else None


def shape_of(transformer: Any, tokens: int, dtype: torch.dtype) -> AttentionShape | None:
    """The shape of the attention of a diffusers transformer; None if it is another kind of module."""
    config: Any = getattr(transformer, "config", {})
    if not {"num_attention_heads", "attention_head_dim"} <= set(config):
        return None
    return AttentionShape(config.num_attention_heads, config.attention_head_dim, tokens, dtype)


def _fastest(
    shape: AttentionShape, machine: Machine, device: torch.device, folder: Path, remark: str
) -> ChosenAttention:
    key = sha256_json([machine.name, torch.__version__, shape.heads, shape.head_size, shape.rounded, str(shape.dtype)])
    path = folder / f"{key}.json"
    found: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        found = {name: float(seconds) for name, seconds in json.loads(path.read_text(encoding="utf-8")).items()}
    known = "measured before" if found else "measured now"
    if not found:
        # torch's own choice is one of the others; plain products are never the fastest, and take gigabytes
        found = measure([name for name in possible_backends(machine) if name not in (NATIVE, "math")], shape, device)
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            write_json(path, found)
    if not found:
        return ChosenAttention(NATIVE, f"no single kernel works{remark}")
    times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in sorted(found.items(), key=lambda x: x[1]))
    return ChosenAttention(min(found, key=found.__getitem__), f"{known} at {shape.rounded} tokens: {times}{remark}")


def _inputs(shape: AttentionShape, tokens: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    size = (1, tokens, shape.heads, shape.head_size)
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (torch.randn(size, generator=generator, device=device, dtype=shape.dtype) for _ in range(3))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def _run(name: str, query: Tensor, key: Tensor, value: Tensor) -> None:
    output = attend(query, key, value, name)
    torch.autograd.grad(output, (query, key, value), torch.ones_like(output))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
