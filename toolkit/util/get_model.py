"""From the `arch` of a job file to the class that answers for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.cards import read_cards
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.extension import ROOTS, Broken, Package, Root, attempt, exported

if TYPE_CHECKING:
    from toolkit.models.base_model import BaseModel


def get_model_class(model_config: ModelConfig, *, roots: tuple[Root, ...] = ROOTS) -> type[BaseModel]:
    """The model class of `model_config.arch`. Only its own package is loaded.

    Raises:
        UserError: no model has this arch (the message lists those that exist), or the user's extension that defines it
            is broken.
    """
    arch = model_config.arch
    known = read_cards(roots)
    if arch not in known.packages:
        skipped = "".join(f"\n  {broken}" for broken in known.broken)
        raise UserError(f'model.arch: no model "{arch}". Known: {", ".join(sorted(known.packages))}{skipped}')
    package, broken = known.packages[arch], list[Broken]()
    models = attempt(_models_of, package, broken)
    if models is None:
        raise UserError(f'model.arch: the model "{arch}" cannot be used. {broken[0]}')
    for model in models:
        if model.arch == arch:
            return model
    raise UserError(f'{package.name}: card.py describes "{arch}", but no class in AI_TOOLKIT_MODELS has that arch.')


def model_classes(*, roots: tuple[Root, ...] = ROOTS) -> dict[str, type[BaseModel]]:
    """The model class of every arch. Loads every model package; users' packages that are broken are left out."""
    classes: dict[str, type[BaseModel]] = {}
    for arch, package in read_cards(roots).packages.items():
        for model in attempt(_models_of, package, []) or ():
            if model.arch == arch:
                classes[arch] = model
    return classes


def _models_of(package: Package) -> list[type[BaseModel]]:
    return exported(package, "AI_TOOLKIT_MODELS")
