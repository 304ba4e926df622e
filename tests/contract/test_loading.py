"""Components come and go one by one."""

from __future__ import annotations

import pytest
import torch

from tests.contract.conftest import Models

COMPONENTS = ("text_encoder", "vae", "transformer")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_is_loaded_alone_frozen_and_in_eval_mode(make_model: Models, component: str) -> None:
    model = make_model(component)
    assert [name for name in COMPONENTS if getattr(model, name) is not None] == [component]
    module = getattr(model, component)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("component", COMPONENTS)
def test_loading_twice_keeps_what_is_there_and_freeing_forgets_it(make_model: Models, component: str) -> None:
    model = make_model(component)
    first = getattr(model, component)
    model.load(component)  # type: ignore[arg-type]
    assert getattr(model, component) is first
    model.free(component)  # type: ignore[arg-type]
    assert getattr(model, component) is None


def test_two_loads_give_the_same_weights(make_model: Models) -> None:
    one, two = (make_model("transformer").transformer.state_dict() for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_loading_draws_from_no_global_generator(make_model: Models) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_model(*COMPONENTS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("component", COMPONENTS)
def test_fingerprints_are_the_same_each_time_and_need_nothing_loaded(make_model: Models, component: str) -> None:
    model = make_model()
    assert model.fingerprint(component) == make_model().fingerprint(component)  # type: ignore[arg-type]
    assert getattr(model, component) is None


def test_components_have_different_fingerprints(make_model: Models) -> None:
    model = make_model()
    assert len({model.fingerprint(component) for component in COMPONENTS}) == 3  # type: ignore[arg-type]


def test_the_files_are_found_in_order_before_anything_is_loaded(make_model: Models) -> None:
    make_model().check_files()
