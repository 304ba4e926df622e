from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cards import find_cards
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.extension import ROOTS, Root
from toolkit.util.get_model import get_model_class


def config_of(arch: str) -> ModelConfig:
    return ModelConfig(name_or_path="a/model", arch=arch)


@pytest.mark.parametrize("arch", sorted(find_cards()))
def test_every_card_has_a_class(arch: str) -> None:
    assert get_model_class(config_of(arch)).arch == arch


def test_an_unknown_arch_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r'no model "flux_2"\. Known: .*flux2, flux2_klein_4b, flux2_klein_9b'):
        get_model_class(config_of("flux_2"))


def test_a_users_class_stands_before_ours_of_the_same_arch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "override_extensions" / "mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        'class Mine:\n    arch = "flux2"\n\nAI_TOOLKIT_MODELS = [Mine]\n', encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    root = Root("override_extensions", folder.parent, is_built_in=False)
    assert get_model_class(config_of("flux2"), roots=(root, *ROOTS)).__name__ == "Mine"
