"""toolkit.lora.update"""

import pytest
import torch

from toolkit.lora.update import (
    LayerLocation,
    Update,
    distance,
    exact_rank,
    fuse,
    norm,
    padded,
    resized,
    split,
    truncated,
)


def _update(out: int = 6, into: int = 5, rank: int = 3, seed: int = 0) -> Update:
    generator = torch.Generator().manual_seed(seed)
    return Update(torch.randn(rank, into, generator=generator), torch.randn(out, rank, generator=generator))


def test_norm_and_distance_are_those_of_the_dense_changes() -> None:
    one, other = _update(), _update(seed=1, rank=2)
    assert norm(one) == pytest.approx(float(one.delta().norm()), rel=1e-6)
    assert distance(one, other) == pytest.approx(float((one.delta() - other.delta()).norm()), rel=1e-6)


def test_the_distance_of_equal_changes_with_other_factors_is_rounding() -> None:
    update = _update(out=100, into=80, rank=16)
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))
    assert distance(update, Update(turn.T @ update.a, update.b @ turn)) < 1e-6 * norm(update)


def test_the_distance_to_a_broken_update_is_no_number() -> None:
    update = _update()
    assert not distance(update, Update(update.a * float("nan"), update.b)) <= 1.0


@pytest.mark.parametrize("present", [(0, 1, 2), (1,), (0, 2)])
@pytest.mark.parametrize("shares_a", [True, False])
def test_fused_parts_are_split_again(present: tuple[int, ...], shares_a: bool) -> None:
    parts = {i: _update(rank=3 if shares_a else 2 + i, seed=i) for i in present}
    if shares_a:
        parts = {i: Update(parts[present[0]].a, update.b) for i, update in parts.items()}
    fused = fuse(parts, 3)
    assert fused.rank == (3 if shares_a else sum(update.rank for update in parts.values()))
    for i, part in enumerate(split(fused, 3)):
        rows = fused.delta().chunk(3)[i]
        if i in parts:
            assert part is not None
            assert torch.equal(rows, parts[i].delta())
            assert torch.equal(part.delta(), rows)
        else:
            assert part is None or not part.b.any()
            assert not rows.any()


def test_an_untrained_update_is_split_into_layers_that_all_have_one() -> None:
    update = _update()
    assert all(part is not None for part in split(Update(update.a, torch.zeros_like(update.b)), 3))


def test_truncation_keeps_the_largest_singular_values() -> None:
    update = _update(out=30, into=20, rank=8)
    smaller, lost = truncated(update, 3)
    values = torch.linalg.svdvals(update.delta())
    assert lost == pytest.approx(float(values[3:].norm() / values.norm()), rel=1e-4)
    assert distance(smaller, update) == pytest.approx(lost * norm(update), rel=1e-4)


def test_a_larger_rank_changes_nothing() -> None:
    update = _update()
    larger, lost = resized(update, 7)
    assert (larger.rank, lost) == (7, 0.0)
    assert torch.equal(larger.delta(), update.delta())


def test_the_exact_rank_sees_through_padding() -> None:
    assert exact_rank(padded(_update(rank=3), 5)) == 3
    assert exact_rank(Update(torch.zeros(4, 5), torch.zeros(6, 4))) == 1


def test_a_place_picks_its_rows_in_its_order() -> None:
    rows = torch.arange(6.0)[:, None]
    assert LayerLocation("x", 1, 3).rows(rows).flatten().tolist() == [2, 3]
    assert LayerLocation("x", is_swapped=True).rows(rows).flatten().tolist() == [3, 4, 5, 0, 1, 2]
