"""toolkit.objectives.losses"""

import pytest
import torch

from toolkit.objectives.choices import LOSSES
from toolkit.objectives.losses import Distance, masked_mean


@pytest.mark.parametrize("kind", LOSSES)
def test_a_perfect_prediction_costs_nothing(kind: str) -> None:
    target = torch.randn(2, 3, 4, 4)
    assert Distance(kind)(target, target) == pytest.approx([0.0, 0.0], abs=1e-7)


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_is_per_sample_in_fp32_and_grows_with_the_error(kind: str) -> None:
    target = torch.zeros(3, 3, 4, 4, dtype=torch.bfloat16)
    prediction = target + torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1).bfloat16()
    loss = Distance(kind)(prediction, target)
    assert loss.shape == (3,)
    assert loss.dtype == torch.float32
    assert loss[0] < loss[1] < loss[2]


def test_pseudo_huber_is_absolute_error_far_away() -> None:
    loss = Distance("pseudo_huber")(torch.full((1, 1, 1, 1), 5.0), torch.zeros(1, 1, 1, 1))
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
    Distance(kind)(prediction, torch.zeros(1, 2, 3, 3), mask).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad[:, :, 1].abs().min() > 0
    assert prediction.grad[:, :, [0, 2]].abs().max() == 0


ERRORS = torch.tensor([0.0, 0.1, 0.3, 1.0, 4.0]).view(5, 1, 1, 1)


def _of(kind: str, **params: float) -> torch.Tensor:
    return Distance(kind, params)(ERRORS, torch.zeros_like(ERRORS))


def test_hubers_losses_are_torchs() -> None:
    error, zero = ERRORS.flatten(), torch.zeros(5)
    expected = torch.nn.functional.huber_loss(error, zero, reduction="none", delta=0.3)
    assert torch.allclose(_of("huber", delta=0.3), expected)
    expected = torch.nn.functional.smooth_l1_loss(error, zero, reduction="none", beta=0.3)
    assert torch.allclose(_of("smooth_l1", delta=0.3), expected)
    assert torch.allclose(_of("huber"), torch.nn.functional.huber_loss(error, zero, reduction="none"))
    assert torch.allclose(_of("pseudo_huber", c=0.5), (error**2 + 0.25).sqrt() - 0.5)


def test_a_limit_takes_the_gradient_of_samples_above_it() -> None:
    errors = ERRORS.clone().requires_grad_()
    loss = Distance(most=0.5)(errors, torch.zeros_like(errors))
    assert loss.tolist() == pytest.approx([0, 0.01, 0.09, 0.5, 0.5])
    (gradient,) = torch.autograd.grad(loss.sum(), errors)
    assert gradient.flatten().tolist() == pytest.approx([0, 0.2, 0.6, 0, 0])


def test_haar_coefficients_of_an_error_have_the_mean_square_of_the_error() -> None:
    """Why `wavelet` is read as `mse`."""
    error = torch.randn(2, 3, 6, 8)
    a, b, c, d = error[..., ::2, ::2], error[..., ::2, 1::2], error[..., 1::2, ::2], error[..., 1::2, 1::2]
    coefficients = torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    assert torch.allclose(coefficients.square().mean(), error.square().mean())
