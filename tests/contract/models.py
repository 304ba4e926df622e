"""A small instance of every registered model, for the tests that all of them must pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import layouts
from tests.tiny import TINY
from tests.tiny_flux import make_tiny_flux
from toolkit.cards import read_cards
from toolkit.extension import import_package
from toolkit.util.get_model import model_classes

# The `model` section of a job that uses a small model of this arch, whose files go to the folder.
MakeTiny = Callable[[Path], dict[str, Any]]


def _dev(folder: Path) -> dict[str, Any]:
    place = layouts.write_model(
        folder / "model", "diffusers", layouts.small_transformer(guidance_embeds=True), stem="flux2-dev"
    )
    return {"name_or_path": str(place), "te_name_or_path": str(layouts.write_text_encoder(folder / "encoder"))}


def _klein(folder: Path) -> dict[str, Any]:
    transformer = layouts.small_transformer(guidance_embeds=False, joint_dim=192)
    place = layouts.write_model(folder / "model", "diffusers", transformer, stem="flux-2-klein")
    return {"name_or_path": str(place), "te_name_or_path": str(TINY)}


BUILT_IN: dict[str, MakeTiny] = {
    "flux": partial(make_tiny_flux, kind="dev"),
    "flux_kontext": partial(make_tiny_flux, kind="kontext"),
    "flux2": _dev,
    "flux2_klein_4b": _klein,
    "flux2_klein_9b": _klein,
    "flux2_klein_9b_kv": _klein,
    "flux2_tiny": lambda folder: {"name_or_path": str(TINY)},
}


# arch -> another with the same tiny model, whose class is the same but for its name: `make torture` computes both.
COMPUTES_AS = {"flux2_klein_9b": "flux2_klein_4b"}


def shorten_texts(patch: pytest.MonkeyPatch) -> None:
    """Give every model 32 tokens for a text instead of up to 512, which take most of the time of a tiny job."""
    for model in model_classes().values():
        patch.setattr(model, "max_text_tokens", 32)


def find_maker(arch: str) -> MakeTiny | None:
    """How a small model of this arch is made; None if nobody has said.

    An extension says it in `tiny.py` beside its `card.py`: `make_tiny(arch, folder)` writes what files it needs into
    the folder and returns the `model` section of a job without `arch`.
    """
    if arch in BUILT_IN:
        return BUILT_IN[arch]
    package = read_cards().packages[arch]
    if (package.folder / "tiny.py").is_file():
        return partial(import_package(package, "tiny").make_tiny, arch)
    return None
