"""Checks that a network of one model fits another, on which samples are drawn."""

from __future__ import annotations

from toolkit.config import ModelConfig
from toolkit.config.drawing.twin import KEY
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel


def check_twin(model: BaseModel, section: ModelConfig) -> None:
    """Check the local files of the model that samples are drawn on; what is on the hub is checked when it comes.

    Args:
        model: the model that is trained; nothing of it need be loaded.
        section: the `model` section of the other one.

    Raises:
        UserError: its files are missing, damaged, or those of a model whose layers have other shapes.
    """
    twin = model.beside(section)
    try:
        twin.check_files()
        must_be_twins(model, twin)
    except UserError as error:
        raise UserError(f"{KEY}: {error} Give weights for the model that is trained.") from error


def must_be_twins(model: BaseModel, twin: BaseModel) -> None:
    """Compare the layers of two models, as far as they are known before they are loaded.

    Raises:
        UserError: they do not have the same shapes.
    """
    own, other = model.plan_transformer(), twin.plan_transformer()
    if own is None or other is None:
        return
    shapes, found = ({name: tuple(p.shape) for name, p in one.named_parameters()} for one in (own, other))
    if shapes == found:
        return
    name = next(name for name in (*shapes, *found) if shapes.get(name) != found.get(name))
    sizes = " and ".join(_as_text(one.get(name)) for one in (found, shapes))
    raise UserError(
        f"{twin.model_config.name_or_path} does not have the layers of {model.model_config.name_or_path}: {name} is "
        f"{sizes}."
    )


def _as_text(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))
