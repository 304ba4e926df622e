"""Keys at places of a grid: what is added, against rotations written out by hand, on both families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extensions_built_in.diffusion_models.flux2.klein_kv_model import Flux2Klein9BKVModel
from tests.tiny import tiny_config, tiny_model
from tests.tiny_flux import make_tiny_flux, tiny_flux
from toolkit.adapters.adapter_set import AdapterSet, view_name
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.randomness import Draws

ROWS, COLUMNS = 2, 3  # tokens of the noisy image
SIDE = 4  # patches of the view
THETA = {"flux2": 2000.0, "flux": 10000.0}
TIME = {"flux2": 10.0, "flux": 1.0}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model_of(family: str, folder: Path) -> Any:
    if family == "flux2":
        return tiny_model("transformer")
    return tiny_flux(make_tiny_flux(folder), "transformer")


def adapter_on(model: BaseModel, positions: str, *, num_tokens: int = SIDE**2) -> Any:
    section = {"type": "vision_direct", "image_encoder_path": "unused", "positions": positions}
    shape = ViewShape(num_tokens=num_tokens, width=24, encoder="random")
    adapter: Any = ADAPTERS["vision_direct"].load()(AdapterConfig.model_validate(section), shape)
    adapter.attach(model, Draws(0))
    with torch.no_grad():
        for index, (_, parameter) in enumerate(adapter.named_parameters()):
            parameter.add_(0.05 * normal(*parameter.shape, seed=index))
    return adapter


def inputs_of(family: str) -> tuple[Tensor, Tensor, Condition]:
    latents = normal(2, 64, ROWS, COLUMNS, seed=1) if family == "flux2" else normal(2, 16, 4, 6, seed=1)
    embeds = normal(2, 48, 192, seed=2) if family == "flux2" else normal(2, 9, 32, seed=2)
    return latents, torch.tensor([300.0, 700.0]), Condition(embeds)


def predict(model: Any, adapter: Any, view: Tensor | None, family: str) -> Tensor:
    latents, timestep, condition = inputs_of(family)
    condition = Condition(condition.prompt_embeds, extras={} if view is None else {view_name(0): view})
    with torch.no_grad(), AdapterSet((adapter,)).reading(condition, num_noisy=ROWS * COLUMNS) as adapted:
        return model.get_noise_prediction(latents, timestep, adapted)


def rotated_by_hand(heads: Tensor, places: list[tuple[float, ...]], axes: tuple[int, ...], theta: float) -> Tensor:
    """Queries or keys [B, S, heads, head size], each pair of channels turned as a complex number."""
    angles = [
        [place[axis] * theta ** (-2 * pair / size) for axis, size in enumerate(axes) for pair in range(size // 2)]
        for place in places
    ]
    turn = torch.polar(torch.ones(len(places), sum(axes) // 2), torch.tensor(angles))  # [S, head size / 2]
    pairs = torch.view_as_complex(heads.float().unflatten(3, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn[None, :, None, :]).flatten(3)


def rewrite(adapter: Any, view: Tensor, family: str, axes: tuple[int, ...], num_text: int) -> None:
    """Add placed attention around every output layer, from the queries that the norm gives."""
    tokens = adapter.projector(view)
    rest = (0.0,) * (len(axes) - 3)
    queries = [(0.0, float(y), float(x), *rest) for y in range(ROWS) for x in range(COLUMNS)]
    keys = [
        (TIME[family], (y + 0.5) * ROWS / SIDE - 0.5, (x + 0.5) * COLUMNS / SIDE - 0.5, *rest)
        for y in range(SIDE)
        for x in range(SIDE)
    ]
    for layer in adapter.attention.layers:
        site = layer.site
        first = num_text if site.is_joint else 0
        seen: dict[str, Tensor] = {}

        def take(module: nn.Module, arguments: Any, query: Tensor, seen: Any = seen, first: int = first) -> None:
            seen["query"] = query[:, first : first + ROWS * COLUMNS]

        def add(module: nn.Module, arguments: Any, seen: Any = seen, first: int = first, layer: Any = layer) -> Any:
            heads = (layer.site.num_heads, layer.site.head_size)
            key = layer.norm_k_ip(layer.to_k_ip(tokens).unflatten(2, heads))
            value = layer.to_v_ip(tokens).unflatten(2, heads)
            turned = rotated_by_hand(seen["query"], queries, axes, THETA[family])
            placed = rotated_by_hand(key, keys, axes, THETA[family])
            scores = torch.einsum("bshd,bnhd->bhsn", turned, placed) / heads[1] ** 0.5
            mixed = torch.einsum("bhsn,bnhd->bshd", scores.softmax(3), value).flatten(2)
            hidden = arguments[0].clone()
            hidden[:, first : first + ROWS * COLUMNS, : mixed.shape[2]] += mixed
            return (hidden,)

        site.query.register_forward_hook(take)
        site.output.register_forward_pre_hook(add)


@pytest.mark.parametrize("family", ["flux2", "flux"])
def test_a_grid_adds_what_attention_with_rotations_written_out_gives(family: str, tmp_path: Path) -> None:
    model, plain = (model_of(family, tmp_path / name) for name in ("one", "other"))
    view = normal(2, SIDE**2, 24, seed=3)
    adapter, by_hand = (adapter_on(one, "grid") for one in (model, plain))
    num_text = inputs_of(family)[2].prompt_embeds.shape[1] - (family == "flux")  # the last row is CLIP's vector
    config = model.transformer.config
    assert family == "flux" or config.rope_theta == THETA["flux2"]
    rewrite(by_hand, view, family, tuple(config.axes_dims_rope), num_text)
    placed = predict(model, adapter, view, family)
    assert (placed - predict(plain, by_hand, None, family)).abs().max() < 1e-4


def test_where_a_patch_is_matters_only_with_a_grid() -> None:
    view = normal(2, SIDE**2, 24, seed=3)
    moved = view[:, torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(0))]
    changes = {}
    for positions in ("none", "grid"):
        model = tiny_model("transformer")
        adapter = adapter_on(model, positions)
        one, other = (predict(model, adapter, given, "flux2") for given in (view, moved))
        changes[positions] = float((one - other).abs().max())
    assert changes["none"] < 1e-5 < 1e-3 < changes["grid"]


def test_the_references_of_a_sample_come_first_on_klein_kv() -> None:
    """The grid lies over the noisy image, not over the references before it."""
    model = Flux2Klein9BKVModel(tiny_config(arch="flux2_klein_9b_kv"), device=torch.device("cpu"), dtype=torch.float32)
    model.transformer = tiny_model("transformer").transformer
    adapter = adapter_on(model, "grid")
    seen = []
    for references in ((), (normal(1, 64, 5, 4, seed=5),)):
        condition = Condition(
            normal(1, 48, 192, seed=2), references=references, extras={view_name(0): normal(1, SIDE**2, 24, seed=3)}
        )
        with torch.no_grad(), AdapterSet((adapter,)).reading(condition, num_noisy=ROWS * COLUMNS) as adapted:
            model.get_noise_prediction(normal(1, 64, ROWS, COLUMNS, seed=1), torch.tensor([300.0]), adapted)
            seen.append(adapter._reading.noisy_positions)
    assert torch.equal(seen[0], seen[1])
    assert seen[0][:, 0].unique().tolist() == [0]


def test_clips_own_token_is_at_the_centre() -> None:
    model = tiny_model("transformer")
    adapter = adapter_on(model, "grid", num_tokens=SIDE**2 + 1)
    assert predict(model, adapter, normal(2, SIDE**2 + 1, 24, seed=3), "flux2").isfinite().all()


def test_files_say_whether_keys_have_places(tmp_path: Path) -> None:
    placed, unplaced = (adapter_on(tiny_model("transformer"), positions) for positions in ("grid", "none"))
    with pytest.raises(UserError, match="adapter positions grid, and this job has none"):
        unplaced.load_state_dict(placed.state_dict(), placed.metadata(), source="file")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"num_tokens": 4}, "`num_tokens` averages the patches"),
        ({"clip_layer": "image_embeds"}, "`clip_layer: image_embeds` has no patches"),
    ],
)
def test_what_has_no_places_is_refused(settings: dict[str, Any], what: str) -> None:
    section = {"type": "vision_direct", "image_encoder_path": "unused", "positions": "grid", **settings}
    with pytest.raises(ValueError, match=what):
        AdapterConfig.model_validate(section)
