"""Checks that the prompts of a drawing job have the images that its adapters read."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.config import SampleItem
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.errors import Problem


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
