from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.memory.activation_offload import ActivationOffload
from toolkit.memory.recompute import checkpointed


class TwoStreams(nn.Module):
    """A block of two streams and something shared, as those of FLUX."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, image: Tensor, text: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        return image + torch.tanh(self.image(image) * shared), text + torch.tanh(self.text(text)) + image.mean()


def _blocks() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(TwoStreams() for _ in range(4))


def _run(blocks: nn.ModuleList, run: Callable[..., Any], seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    image, text, shared = (torch.randn(size, 8, generator=draw).requires_grad_() for size in (6, 3, 1))
    for block in blocks:
        image, text = run(block, image, text, shared)
    return image.square().sum() + text.sum()


def _gradients(blocks: nn.ModuleList) -> list[Tensor]:
    return [parameter.grad for parameter in blocks.parameters() if parameter.grad is not None]


def test_gradients_are_the_same_bit_for_bit_over_several_forwards_and_steps() -> None:
    found = []
    for run in (checkpointed, ActivationOffload(smallest_bytes=0)):
        blocks = _blocks()
        for seed in (0, 2):
            (_run(blocks, run, seed) + _run(blocks, run, seed + 1)).backward()
        found.append(_gradients(blocks))
    assert len(found[0]) == 16
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_forward_without_backward_leaves_nothing_behind() -> None:
    offload, blocks = ActivationOffload(smallest_bytes=0), _blocks()
    _run(blocks, offload, 0)
    _run(blocks, offload, 1).backward()
    plain = _blocks()
    _run(plain, checkpointed, 1).backward()
    assert all(torch.equal(a, b) for a, b in zip(_gradients(blocks), _gradients(plain), strict=True))
    assert all(kept() is None for kept in offload._kept)


def test_inputs_leave_the_device_and_what_blocks_share_stays() -> None:
    kept: list[tuple[int, ...]] = []

    class Watched(ActivationOffload):
        def _keep(self, tensor: Tensor) -> Any:
            kept.append(tuple(tensor.shape))
            return super()._keep(tensor)

    blocks = _blocks()
    _run(blocks, Watched(smallest_bytes=64), 0).backward()
    assert kept == [(6, 8), (3, 8)] * 4, "the shared input has 32 bytes"
