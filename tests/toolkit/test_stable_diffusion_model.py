"""toolkit.stable_diffusion_model"""

import torch

from tests.tiny import tiny_config
from toolkit.stable_diffusion_model import StableDiffusion


class _Flux2Host(StableDiffusion, is_abstract=True):
    arch = "flux2_klein_4b"


def test_flux2_is_known_to_the_old_interface_and_flow_matching() -> None:
    model = _Flux2Host(tiny_config(), device=torch.device("cpu"), dtype=torch.float32)  # type: ignore[abstract]
    assert model.is_flux2
    assert model.is_flow_matching
