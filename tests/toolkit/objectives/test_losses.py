"""toolkit.objectives.losses"""

import pytest
import torch

from toolkit.objectives.choices import LOSSES
from toolkit.objectives.losses import masked_mean, sample_loss


@pytest.mark.parametrize("kind", LOSSES)
def test_a_perfect_prediction_costs_nothing(kind: str) -> None:
    target = torch.randn(2, 3, 4, 4)
    assert sample_loss(kind, target, target) == pytest.approx([0.0, 0.0], abs=1e-7)


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_is_per_sample_in_fp32_and_grows_with_the_error(kind: str) -> None:
    target = torch.zeros(3, 3, 4, 4, dtype=torch.bfloat16)
    prediction = target + torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1).bfloat16()
    loss = sample_loss(kind, prediction, target)
    assert loss.shape == (3,)
    assert loss.dtype == torch.float32
    assert loss[0] < loss[1] < loss[2]


def test_pseudo_huber_is_absolute_error_far_away() -> None:
    loss = sample_loss("pseudo_huber", torch.full((1, 1, 1, 1), 5.0), torch.zeros(1, 1, 1, 1))
    assert loss.item() == pytest.approx(5.0, abs=0.011)


def test_a_small_mask_counts_as_much_as_a_large_one() -> None:
    error = torch.zeros(2, 3, 4, 4)
    error[:, :, 0, 0] = 6
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, :, 0, 0] = 1
    mask[1, :, 0] = 0.5
    assert masked_mean(error, mask).tolist() == [6, 1.5]
    assert masked_mean(error, None).tolist() == pytest.approx([6 / 16, 6 / 16])
    assert masked_mean(error, mask * 0).tolist() == [0, 0]


@pytest.mark.parametrize("kind", LOSSES)
def test_nothing_outside_of_a_mask_has_a_gradient(kind: str) -> None:
    prediction = torch.randn(1, 2, 3, 3, requires_grad=True)
    mask = torch.zeros(1, 1, 3, 3)
    mask[:, :, 1] = 0.3
    sample_loss(kind, prediction, torch.zeros(1, 2, 3, 3), mask).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad[:, :, 1].abs().min() > 0
    assert prediction.grad[:, :, [0, 2]].abs().max() == 0
