"""toolkit.encode.packing"""

import pytest
import torch
from torch import Tensor

from toolkit.encode.packing import fold, pack, unpack


def _bytes(parts: dict[str, Tensor]) -> int:
    return sum(part.nbytes for part in parts.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("leading", "different", "trailing"),
    [(0, 5, 0), (3, 4, 0), (0, 3, 4), (2, 1, 2), (7, 0, 0), (1, 0, 0), (1, 1, 1), (4, 0, 4)],
)
def test_whatever_repeats_the_tensor_comes_back_bit_for_bit(
    dtype: torch.dtype, leading: int, different: int, trailing: int
) -> None:
    torch.manual_seed(0)
    embeds = torch.cat(
        [
            torch.randn(1, 6).expand(leading, -1),
            torch.randn(different, 6),
            torch.randn(1, 6).expand(trailing, -1),
        ]
    ).to(dtype)
    for back in (fold(embeds).tensor(), unpack(pack(embeds)).tensor()):
        assert back.dtype == dtype
        assert torch.equal(back, embeds)


def test_bits_that_compare_equal_or_unequal_to_themselves_are_kept() -> None:
    embeds = torch.zeros(4, 2)
    embeds[1] = -0.0
    embeds[2, 0] = float("nan")
    embeds[3, 1] = float("inf")
    assert torch.equal(unpack(pack(embeds)).tensor().view(torch.int32), embeds.view(torch.int32))


def test_a_third_of_bf16_embeddings_is_saved() -> None:
    embeds = torch.randn(64, 2048, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert _bytes(pack(embeds)) < 0.68 * embeds.nbytes


def test_padding_before_the_prompt_costs_one_row() -> None:
    embeds = torch.randn(512, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    embeds[:400] = embeds[0]
    parts = pack(embeds)
    assert parts["repeats"].tolist() == [400, 1]
    assert _bytes(parts) < 0.7 * embeds[399:].nbytes
    assert torch.equal(unpack(parts).tensor(), embeds)


def test_what_is_kept_in_memory_is_one_row_of_padding_and_holds_on_to_nothing_else() -> None:
    embeds = torch.randn(512, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    embeds[:400] = embeds[0]
    kept = fold(embeds)
    assert kept.nbytes == kept.rows.untyped_storage().nbytes() == embeds[399:].nbytes
