"""toolkit.optimizers.stored.blocks, and AdamW in them."""

from collections.abc import Callable

import torch

from toolkit.optimizers.kinds.adam8bit import AdamW8bit
from toolkit.optimizers.row import BLOCK
from toolkit.optimizers.stored.blocks import BITS_16, decode, encode


def test_blocks_keep_values_to_within_six_percent() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    restored = decode(*encode(values), values.shape)
    large = values.abs() > 1e-3 * values.abs().max()
    assert ((restored - values).abs()[large] <= 0.0626 * values.abs()[large]).all()


def test_blocks_of_16_bits_keep_changes_of_a_ten_thousandth() -> None:
    """The slow average of AdEMAMix moves by such shares of a gradient."""
    value, target = torch.zeros(BLOCK), torch.linspace(-1, 1, BLOCK)
    for _ in range(2000):
        value = decode(*encode(value.lerp(target, 1e-4), codes=BITS_16), value.shape)
    assert torch.allclose(value, target * (1 - (1 - 1e-4) ** 2000), atol=2e-3)


def test_a_positive_divisor_never_becomes_zero() -> None:
    values = torch.full((BLOCK,), 1e-9)
    values[0] = 1.0
    assert (decode(*encode(values, keep_positive=True), values.shape) > 0).all()


def test_zeros_stay_zeros() -> None:
    assert not decode(*encode(torch.zeros(10)), torch.Size([10])).any()


def test_state_takes_one_byte_per_value_and_moment() -> None:
    weight = torch.nn.Parameter(torch.randn(64, 64))
    optimizer = AdamW8bit([weight])
    weight.grad = torch.randn(64, 64)
    optimizer.step()
    state = optimizer.state[weight]
    num_bytes = sum(value.numel() * value.element_size() for value in state.values())
    assert num_bytes < 2.1 * weight.numel()


def test_it_follows_adamw() -> None:
    def train(kind: Callable[..., torch.optim.Optimizer]) -> float:
        generator = torch.Generator().manual_seed(0)
        inputs, truth = torch.randn(256, 20, generator=generator), torch.randn(20, 3, generator=generator)
        weight = torch.nn.Parameter(torch.zeros(20, 3))
        optimizer = kind([weight], lr=0.02, weight_decay=0.0)
        for _ in range(400):
            optimizer.zero_grad()
            (inputs @ weight - inputs @ truth).square().mean().backward()
            optimizer.step()
        return float((weight - truth).detach().abs().max())

    assert train(AdamW8bit) < max(0.02, 2 * train(torch.optim.AdamW))
