"""toolkit.models.prompt_cut"""

from toolkit.models.prompt_cut import PromptCut


def test_the_place_of_the_cut_is_shown() -> None:
    cut = PromptCut(
        600, 512, "A very long story about a dog\nthat met", " a cat and went home, where it slept for a long time"
    )
    assert cut.describe() == (
        'a prompt has 600 tokens, template included, and 512 are read: it is cut between "A very long story '
        'about a dog that met" and "a cat and went home, where it slept for ..."'
    )


def test_a_prompt_that_just_fits_without_its_closing_tokens_is_reported_too() -> None:
    text = PromptCut(515, 512, "all of it", "").describe()
    assert 'shorten "all of it" by 3 tokens' in text
