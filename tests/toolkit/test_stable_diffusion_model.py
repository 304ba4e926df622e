"""toolkit.stable_diffusion_model"""

import pytest
import torch

from tests.tiny import tiny_config
from toolkit.errors import UserError
from toolkit.stable_diffusion_model import StableDiffusion


class _Flux2Host(StableDiffusion):
    arch = "flux2_klein_4b"


def _model() -> StableDiffusion:
    return _Flux2Host(tiny_config(), device=torch.device("cpu"), dtype=torch.float32)


def test_flux2_is_known_to_the_old_interface_and_flow_matching() -> None:
    assert _model().is_flux2
    assert _model().is_flow_matching


def test_a_flow_matching_model_accepts_its_own_scheduler_only() -> None:
    _model().check_noise_scheduler("flowmatch")
    with pytest.raises(UserError, match=r"train\.noise_scheduler: .* needs `flowmatch`, found `ddpm`"):
        _model().check_noise_scheduler("ddpm")
