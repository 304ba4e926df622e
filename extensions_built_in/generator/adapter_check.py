"""Checks what a drawing job gives its adapters: the images that they read, and the files that a sheet compares."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.cards import ModelCard
from toolkit.config import SampleItem
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.adapter_header import must_fit, settings_of
from toolkit.draw.columns import columns_of
from toolkit.errors import Mistakes, Problem, UserError


def without_images(drawing: GenerateProcessConfig, items: Sequence[SampleItem]) -> tuple[list[Problem], list[str]]:
    """What is wrong if no prompt has an image for an adapter, and warnings where only some have none.

    Args:
        drawing: the settings of the job.
        items: the pictures to draw, with the images for adapters told apart.
    """
    problems, warnings = [], []
    for index, adapter in enumerate(drawing.adapter):
        if adapter.choice.reads == "none":
            continue
        is_control = adapter.choice.reads == "control"
        blind = [item for item in items if not (item.controls if is_control else dict(item.views).get(index))]
        if not blind:
            continue
        if len(blind) == len(items):
            ways = "`ctrl_img`" if is_control else "`ctrl_img`, or set `adapter.test_img_path`"
            what = (
                f"no prompt has an image for the `{adapter.type}` adapter, so it would change nothing. Give them {ways}"
            )
            problems.append(Problem("generate.prompts", what))
        else:
            count = len({item.prompt for item in blind})
            warnings.append(
                f"warning: the `{adapter.type}` adapter is off for {count} prompts, which have no `ctrl_img`, "
                f'such as "{blind[0].prompt}"'
            )
    return problems, warnings


def check_checkpoints(drawing: GenerateProcessConfig, card: ModelCard, mistakes: Mistakes) -> None:
    """Look at the files of adapters that a sheet compares: each must be one of an adapter of the job.

    Args:
        drawing: the settings of the job.
        card: the card of its model.
        mistakes: gets what is wrong with the files.
    """
    for path in dict.fromkeys(column.adapter for column in columns_of(drawing) if column.adapter is not None):
        with mistakes.gathered():
            kind = settings_of(path)["type"]
            own = next((adapter for adapter in drawing.adapter if adapter.type == kind), None)
            if own is None:
                raise UserError(
                    f"{path}: is the file of a `{kind}` adapter, but the job has no adapter: add an `adapter` section."
                )
            must_fit(path, own, arch=card.arch, encoder=None)
