from __future__ import annotations

from textwrap import indent

import pytest

from toolkit.cards import find_cards, read_cards
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.extension import ROOTS, Root
from toolkit.util.get_model import get_model_class, model_classes

UNFINISHED = """
from toolkit.models.base_model import BaseModel

class {name}(BaseModel):
    arch = "{name}".lower()

    def load(self, component):
        pass

AI_TOOLKIT_MODELS = [{name}]
"""
CARD = "family='f', label='l', summary='s', source='a/b', license='x', is_gated=False, divisor_px=16, num_parameters=1"


def config_of(arch: str) -> ModelConfig:
    return ModelConfig(name_or_path="a/model", arch=arch)


@pytest.mark.parametrize("arch", sorted(find_cards()))
def test_every_card_has_a_class(arch: str) -> None:
    assert get_model_class(config_of(arch)).arch == arch


def test_an_unknown_arch_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r'no model "flux_2"\. Known: .*flux2, flux2_klein_4b, flux2_klein_9b'):
        get_model_class(config_of("flux_2"))


def add_model(root: Root, code: str, *, card: str = "") -> None:
    folder = root.folder / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text(code, encoding="utf-8")
    if card:
        (folder / "card.py").write_text(card, encoding="utf-8")


def test_a_users_class_stands_before_ours_of_the_same_arch(root: Root) -> None:
    add_model(root, 'class Mine:\n    arch = "flux2"\n\nAI_TOOLKIT_MODELS = [Mine]\n')
    assert get_model_class(config_of("flux2"), roots=(root, *ROOTS)).__name__ == "Mine"


def test_a_model_that_forgot_answers_is_skipped_and_each_answer_named(root: Root) -> None:
    add_model(root, UNFINISHED.format(name="My_model"))
    assert "my_model" not in read_cards((root,)).cards
    (broken,) = read_cards((root,)).broken
    assert f"Extension {root.package}.mine is broken and was skipped. TypeError: " in str(broken)
    with pytest.raises(UserError, match='no model "my_model"') as refused:
        get_model_class(config_of("my_model"), roots=(root, *ROOTS))
    assert str(broken) in str(refused.value)
    assert "flux2" in model_classes(roots=(root, *ROOTS))


def test_a_model_with_a_card_that_forgot_answers_is_named_by_jobs_that_need_it(root: Root) -> None:
    add_model(
        root,
        f"def __getattr__(name):{indent(UNFINISHED.format(name='Carded'), '    ')}    return AI_TOOLKIT_MODELS\n",
        card=f"from toolkit.cards import ModelCard\nCARDS = (ModelCard(arch='carded', {CARD}),)\n",
    )
    roots = (root, *ROOTS)
    with pytest.raises(UserError, match=r'the model "carded" cannot be used\. Extension .*\.mine is broken'):
        get_model_class(config_of("carded"), roots=roots)
    assert get_model_class(config_of("flux2"), roots=roots).arch == "flux2"
    assert "carded" not in model_classes(roots=roots)
