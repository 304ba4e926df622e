from __future__ import annotations

import pytest

from toolkit.cards import ModelCard, find_cards, read_cards
from toolkit.config import TrainingProcessConfig
from toolkit.extension import ROOTS, Root

CARD = """
from toolkit.cards import ModelCard

CARDS = (
    ModelCard(
        arch="{arch}", family="mine", label="Mine", summary="A test.", source="", license="none", is_gated=False,
        divisor_px=32, num_parameters=1,
    ),
)
"""

BARE = '''
class MyModel:
    """Draws cats.

    And nothing else.
    """

    arch = "cats"

AI_TOOLKIT_MODELS = [MyModel]
'''


def add_package(root: Root, name: str, files: dict[str, str]) -> None:
    (root.folder / name).mkdir()
    for file, text in {"__init__.py": "", **files}.items():
        (root.folder / name / file).write_text(text, encoding="utf-8")


@pytest.fixture(params=[card for _, card in sorted(find_cards().items())], ids=lambda card: card.arch)
def card(request: pytest.FixtureRequest) -> ModelCard:
    return request.param


def test_the_released_sizes_and_the_demo_have_cards() -> None:
    assert {"flux", "flux_kontext", "flux2", "flux2_klein_4b", "flux2_klein_9b", "flux2_tiny"} <= set(find_cards())


def test_a_card_is_complete(card: ModelCard) -> None:
    assert card.label
    assert card.source
    assert card.license
    assert card.summary.endswith(".")
    assert card.divisor_px > 0
    known = {"true_cfg", "guidance_embed", "guidance_bypass", "fixed_guidance", "references", "assistant_lora"}
    assert card.capabilities <= known | {"context_parallel"}
    assert card.num_heads or "context_parallel" not in card.capabilities


def test_a_cards_defaults_are_settings_that_job_files_know(card: ModelCard) -> None:
    sections = {name: field.annotation for name, field in TrainingProcessConfig.model_fields.items()}
    for name, defaults in card.defaults.items():
        assert name in sections
        model = sections[name]
        known = getattr(model, "model_fields", None) or model.__args__[0].model_fields  # type: ignore[union-attr]
        assert set(defaults) <= set(known)


def test_a_cards_default_sizes_are_sizes_the_model_takes(card: ModelCard) -> None:
    sizes = [
        card.defaults["sample"]["width"],
        card.defaults["sample"]["height"],
        *card.defaults["datasets"]["resolution"],
    ]
    assert all(size % card.divisor_px == 0 for size in sizes)


def test_a_users_card_stands_before_ours_of_the_same_arch(root: Root) -> None:
    add_package(root, "mine", {"card.py": CARD.format(arch="flux2")})
    known = read_cards((root, *ROOTS))
    assert known.cards["flux2"].label == "Mine"
    assert known.packages["flux2"].name == f"{root.package}.mine"
    assert known.cards["flux2_klein_4b"].family == "flux2"


def test_a_users_model_without_a_card_is_known_by_its_class(root: Root) -> None:
    add_package(root, "mine", {"__init__.py": BARE})
    card = read_cards((root,)).cards["cats"]
    assert (card.arch, card.summary, card.divisor_px) == ("cats", "Draws cats.", 16)


def test_a_broken_card_is_named_and_the_others_are_read(root: Root) -> None:
    add_package(root, "bad", {"card.py": "CARDS = no_such_name"})
    add_package(root, "good", {"card.py": CARD.format(arch="good")})
    known = read_cards((root,))
    assert set(known.cards) == {"good"}
    assert [str(broken) for broken in known.broken] == [
        f"Extension {root.package}.bad is broken and was skipped. NameError: name 'no_such_name' is not defined"
    ]
