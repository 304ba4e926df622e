"""Every adapter on every model: one life of it, from the start through a step of training to a file and a picture.

A model that does not say where an adapter would add to it refuses that adapter by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.contract.conftest import SIZE_PX, Models
from tests.tiers import IS_TORTURE
from toolkit.adapters.adapter import Adapter
from toolkit.adapters.adapter_set import TARGET_SIGMA, AdapterSet, control_name, inputs_of, view_name
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.files import load_adapter, write_adapter
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig, SampleConfig, TrainConfig
from toolkit.draw.adapter_header import must_fit, settings_of
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.adapted import AdaptedWeights, NamedAdapter
from toolkit.train.learner import build_learner
from toolkit.train.step import Stepper

SHAPE = ViewShape(num_tokens=6, width=16, encoder="random")
TIMESTEP, END = torch.tensor([300.0, 800.0]), torch.tensor([0.1, 0.2])
NUM_NOISY = (SIZE_PX // 16) ** 2
NUM_ROWS = 24  # of a prompt's up to 513, on which nothing here depends; the last may be a pooled vector
STARTS_OTHERWISE = {"redux", "subpixel"}  # see the first test
NEVER_OFF = {"subpixel"}


def make_adapter(kind: str) -> Any:
    """An adapter of a kind, for views of `SHAPE` if it sees any."""
    encoder = {"image_encoder_path": "unused"} if ADAPTERS[kind].reads == "view" else {}
    return ADAPTERS[kind].load()(AdapterConfig.model_validate({"type": kind, **encoder}), SHAPE)


class Setup:
    """A model, one batch, and the inputs of an adapter for it.

    Args:
        model: with its transformer loaded.
        kind: of adapter; attached by `attach`.
        latents: [2, C, h, w], of the model's own VAE.
        embeds: [2, L, D].
    """

    def __init__(self, model: BaseModel, kind: str, latents: Tensor, embeds: Tensor) -> None:
        self.model, self.kind, self.embeds = model, kind, embeds
        if ADAPTERS[kind].is_in_pixels:
            model.use_pixel_vae()
            latents = model.encode_images(normal(2, 3, SIZE_PX, SIZE_PX, seed=4).clamp(-1, 1))
        self.latents = latents
        self.reference = normal(2, *latents.shape[1:], seed=3)

    def attach(self, *, seed: int = 0) -> Adapter:
        """A new adapter on the model."""
        adapter: Adapter = make_adapter(self.kind)
        adapter.attach(self.model, Draws(seed))
        return adapter

    def extras(self) -> dict[str, Tensor]:
        """What the adapter reads of the batch."""
        control = normal(2, *self.latents.shape[1:], seed=1)
        view = normal(2, SHAPE.num_tokens, SHAPE.width, seed=2)
        reads = {"view": {view_name(0): view}, "control": {control_name(0): control}, "none": {}}
        return {**reads[ADAPTERS[self.kind].reads], TARGET_SIGMA: END}

    def predict(self, adapter: Adapter | None = None, *, is_shown: bool = True, with_reference: bool = False) -> Tensor:
        """The velocity, with the adapter's inputs if they are shown, recomputed if the model is."""
        references = (self.reference,) if with_reference else ()
        condition = Condition(self.embeds, references=references, extras=self.extras() if is_shown else {})
        adapters = AdapterSet((adapter,) if adapter else ())
        with adapters.reading(condition, num_noisy=NUM_NOISY) as adapted:
            return self.model.get_noise_prediction(self.latents, TIMESTEP, adapted)

    def train(self, adapter: Adapter) -> None:
        """One step, large enough to be seen in a picture."""
        objective = "mean_flow" if self.kind == "mean_flow" else "velocity"
        section = {"steps": 1, "lr": 0.05, "dtype": "fp32", "objective": objective, "optimizer": "adamw"}
        train = TrainConfig.model_validate(section)
        weights = AdaptedWeights(None, [NamedAdapter(adapter, self.kind, "")])
        learner = build_learner(self.model, weights, train, draws=Draws(0), ranks=OneProcess())
        stepper = Stepper(learner, OBJECTIVES[objective].load().from_config(train), Draws(0), OneProcess())
        condition = Condition(self.embeds, extras=self.extras())
        self.model.transformer.train()
        stepper.train_step(0, [Batch(0, self.latents, condition, torch.ones(2), num_tokens=NUM_NOISY)])
        self.model.transformer.eval()

    @torch.no_grad()
    def draw(self, adapter: Adapter, strength: float) -> Image.Image:
        """A picture in one step from the first sample of the batch."""
        section = {"prompts": ["a red circle"], "width": SIZE_PX, "height": SIZE_PX, "sample_steps": 1}
        (item,) = SampleConfig.model_validate(section).items()
        named = dict.fromkeys(item.prompts(self.model.card), self.embeds[1]) | {item.prompt: self.embeds[0]}
        extras = {name: tensor[0] for name, tensor in self.extras().items() if name != TARGET_SIGMA}
        condition, adapters = SampleCondition(named, extras=extras), AdapterSet((adapter,))
        pipeline = self.model.get_generation_pipeline()
        with (
            adapters.telling_passes_apart(self.model.transformer),
            adapters.following(pipeline),
            adapters.scaled(strength),
            adapters.sampling(condition, item.prompt, num_noisy=NUM_NOISY) as adapted,
        ):
            return self.model.generate_single_image(pipeline, item, adapted, torch.Generator().manual_seed(0))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, eq=False)
class Life:
    """What became of an adapter.

    Attributes:
        setup: the model and the batch.
        adapter: after a step of training.
        base: prediction without it; None if there is no model without it.
        start, trained: predictions with it at the start, and after the step.
        num_changed: numbers of tensors of the model and of the adapter that the step has changed.
    """

    setup: Setup
    adapter: Adapter
    base: Tensor | None
    start: Tensor
    trained: Tensor
    num_changed: tuple[int, int]


@pytest.fixture(scope="session", params=ADAPTERS)
def life(request: pytest.FixtureRequest, make_model: Models, whole: BaseModel, latents: Tensor, embeds: Tensor) -> Life:
    """An adapter that has been trained for a step; left out for models that carry none."""
    model = make_model("transformer")
    if model.get_ends() is None:
        pytest.skip(f"{model.arch} names no place that an adapter could add to, and refuses them all")
    model.share_vae(whole)
    setup = Setup(model, request.param, latents, embeds[:, -NUM_ROWS:])
    base = None if setup.kind in NEVER_OFF else setup.predict()
    adapter = setup.attach()
    start, own = setup.predict(adapter), _tensors(adapter.state_dict().items())
    theirs = {id(weight) for _, weight in adapter.named_parameters()}
    others = [(name, weight) for name, weight in model.transformer.named_parameters() if id(weight) not in theirs]
    before = _tensors(others)
    setup.train(adapter)
    num_changed = (_num_changed(before, others), _num_changed(own, adapter.state_dict().items()))
    return Life(setup, adapter, base, start, setup.predict(adapter), num_changed)


def _tensors(named: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
    return [tensor.detach().clone() for _, tensor in named]


def _num_changed(before: list[Tensor], named: Iterable[tuple[str, Tensor]]) -> int:
    return sum(not torch.equal(old, new) for old, (_, new) in zip(before, named, strict=True))


def test_at_the_start_an_adapter_changes_no_bit(life: Life) -> None:
    setup = life.setup
    if setup.kind == "redux":  # rows of zeros are still keys
        condition = Condition(setup.embeds, extras=setup.extras())
        inputs = inputs_of(0, condition.extras, num_noisy=NUM_NOISY)
        longer = setup.attach().adapted(condition, inputs).prompt_embeds
        added = longer.shape[1] - setup.embeds.shape[1]
        assert added == SHAPE.num_tokens
        assert int((longer == 0).all(dim=2).sum() - (setup.embeds == 0).all(dim=2).sum()) == 2 * added
    elif setup.kind == "subpixel":  # there is no model without it; its first images are grey
        assert torch.allclose(life.start, setup.latents / (TIMESTEP / 1000).view(-1, 1, 1, 1), atol=1e-5)
    else:
        assert life.base is not None
        assert torch.equal(life.start, life.base)


def test_a_step_changes_the_adapter_and_nothing_of_the_model(life: Life) -> None:
    of_model, of_adapter = life.num_changed
    assert of_model == 0
    assert of_adapter > 0
    assert not torch.allclose(life.trained, life.start, atol=1e-3)


def test_off_again_the_model_predicts_as_before_and_computes_no_more(life: Life) -> None:
    setup, adapter = life.setup, life.adapter
    if life.base is None:
        with adapter.scaled(0.0):
            assert torch.equal(setup.predict(adapter), life.start), "its images are grey again"
        return
    assert torch.equal(setup.predict(), life.base)
    with FlopCounterMode(display=False) as off:
        assert torch.equal(setup.predict(adapter, is_shown=False), life.base)
    with FlopCounterMode(display=False) as silent, adapter.scaled(0.0):
        assert torch.equal(setup.predict(adapter), life.base)
    assert silent.get_total_flops() == off.get_total_flops()


def test_beside_references_it_is_off_as_well(life: Life) -> None:
    setup = life.setup
    if "references" not in setup.model.card.capabilities or setup.kind in NEVER_OFF:
        pytest.skip(f"{setup.model.arch} takes no references, or {setup.kind} cannot be off")
    off = setup.predict(life.adapter, is_shown=False, with_reference=True)
    assert torch.equal(off, setup.predict(with_reference=True))
    assert not torch.allclose(setup.predict(life.adapter, with_reference=True), off, atol=1e-3)


def test_it_comes_back_from_its_file(life: Life, make_model: Models, tmp_path: Path) -> None:
    setup, path = life.setup, tmp_path / "job.safetensors"
    write_adapter(path, life.adapter, dtype=torch.float32, metadata={"format": "pt"})
    other = Setup(make_model("transformer"), setup.kind, setup.latents, setup.embeds)
    adapter = other.attach(seed=1)
    assert not torch.equal(other.predict(adapter), life.trained)
    load_adapter(path, adapter)
    assert torch.equal(other.predict(adapter), life.trained)
    encoder = {"image_encoder_path": "unused"} if ADAPTERS[setup.kind].reads == "view" else {}
    told, arch = AdapterConfig.model_validate(settings_of(path) | encoder), setup.model.arch
    settings = ("type", "layer", "tokens", "blocks", "positions", "num_control_images", "subpixel_downscale_factor")
    assert all(getattr(told, key) == getattr(adapter.config, key) for key in settings)
    must_fit(path, told, arch=arch, encoder=SHAPE.encoder)
    with pytest.raises(UserError, match="adapter arch"):
        must_fit(path, told, arch="another", encoder=None)


def test_a_picture_is_drawn_with_it_and_another_without_it(life: Life) -> None:
    on, off = (life.setup.draw(life.adapter, strength) for strength in (1.0, 0.0))
    assert (on.mode, on.size) == ("RGB", (SIZE_PX, SIZE_PX))
    assert on.tobytes() != off.tobytes()


@pytest.mark.parametrize("qtype", ["qfloat8", "uint4"])
def test_on_a_quantized_model_that_is_recomputed_no_adapter_changes_a_bit_at_the_start(
    make_model: Models, latents: Tensor, embeds: Tensor, qtype: str, is_first_of_family: bool
) -> None:
    if qtype == "uint4" and not (is_first_of_family or IS_TORTURE):
        pytest.skip("the other models of a family have the same layers")
    model = make_model("transformer", quantize=True, quantize_te=False, qtype=qtype, quantize_cache=False)
    if model.get_ends() is None:
        pytest.skip(f"{model.arch} carries no adapters")
    model.enable_gradient_checkpointing()
    model.transformer.train()
    for kind in sorted(ADAPTERS.keys() - STARTS_OTHERWISE):
        setup = Setup(model, kind, latents, embeds[:, -NUM_ROWS:])
        adapter, base = setup.attach(), setup.predict()
        with torch.no_grad():
            assert torch.equal(setup.predict(adapter), base), kind
        with torch.enable_grad():  # blocks with a backward pass of their own round otherwise
            assert torch.allclose(setup.predict(adapter), base, rtol=1e-4, atol=1e-5), kind


def test_a_model_that_names_no_places_refuses_every_adapter(make_model: Models) -> None:
    model = make_model("transformer")
    if model.get_ends() is not None:
        pytest.skip(f"{model.arch} carries adapters")
    for kind in ADAPTERS:
        with pytest.raises(UserError, match=rf"adapter\.type: {model.arch} .*`{re.escape(kind)}`"):
            make_adapter(kind).attach(model, Draws(0))
