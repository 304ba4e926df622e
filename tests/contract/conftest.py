"""Every test here runs once for each registered model, or for those that `--arch` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.models import COMPUTES_AS, find_maker, shorten_texts
from toolkit.cards import find_cards
from toolkit.config import ModelConfig
from toolkit.models.base_model import BaseModel
from toolkit.util.get_model import get_model_class

SIZE_PX = 32


# Where all takes long that is done with a model.
LONG = ("test_adapters", "test_jobs", "test_networks", "test_precisions")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "arch" in metafunc.fixturenames:
        is_long = metafunc.module.__name__.endswith(LONG)
        archs = metafunc.config.getoption("--arch") or [
            pytest.param(arch, marks=pytest.mark.torture if is_long and arch in COMPUTES_AS else ())
            for arch in sorted(find_cards())
        ]
        metafunc.parametrize("arch", archs, scope="session")


@pytest.fixture(scope="session")
def model_section(arch: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The `model` section of a job with a small model of the arch."""
    make_tiny = find_maker(arch)
    if make_tiny is None:
        pytest.skip(f"{arch} has no tiny.py: see docs/extensions.md")
    return {"arch": arch, **make_tiny(tmp_path_factory.mktemp(arch))}


class Models:
    """Makes models of one arch; each call a new one."""

    def __init__(self, section: dict[str, Any]) -> None:
        self.section = section

    def __call__(self, *components: str, **changes: Any) -> BaseModel:
        """A model in fp32 on the CPU with some of its components loaded; `changes` go into the `model` section."""
        config = ModelConfig.model_validate({**self.section, **changes})
        model = get_model_class(config)(config, device=torch.device("cpu"), dtype=torch.float32)
        for component in components:
            model.load(component)  # type: ignore[arg-type]
        return model


@pytest.fixture
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests to which the length of a text makes no difference."""
    shorten_texts(monkeypatch)


@pytest.fixture(scope="session")
def make_model(model_section: dict[str, Any]) -> Models:
    """Makes models of the arch under test."""
    return Models(model_section)


@pytest.fixture(scope="session")
def whole(make_model: Models) -> BaseModel:
    """A model with everything loaded, for tests that change nothing in it."""
    return make_model("text_encoder", "vae", "transformer")


@pytest.fixture(scope="session")
def embeds(whole: BaseModel) -> torch.Tensor:
    """Two encoded prompts, [2, L, D]."""
    return torch.cat([whole.get_prompt_embeds([text]) for text in ("a red circle", "a blue square")])


@pytest.fixture(scope="session")
def latents(whole: BaseModel) -> torch.Tensor:
    """Two encoded pictures, [2, C, h, w]."""
    pixels = torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return whole.encode_images(pixels).float()


@pytest.fixture(scope="session")
def is_first_of_family(arch: str) -> bool:
    """Whether what the archs of a family have in common is tested with this one."""
    cards = find_cards()
    return arch == next(other for other in sorted(cards) if cards[other].family == cards[arch].family)


@pytest.fixture(scope="session")
def job_folder(arch: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For a job of the arch."""
    return tmp_path_factory.mktemp(f"{arch}_job")
