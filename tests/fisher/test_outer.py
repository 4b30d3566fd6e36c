"""When to expand the square over pairs of positions, and that both ways agree."""

import pytest
import torch

from unlearn_bench.fisher.outer import add_squares, pair_indices, pair_products, pairs_win


@pytest.mark.parametrize("positions", [1, 2, 5])
def test_pairs_equal_formed_gradients(positions: int) -> None:
    g, a = torch.randn(7, 4, positions).double(), torch.randn(7, positions, 3).double()
    formed = torch.zeros(4, 3, dtype=torch.float64)
    add_squares(formed, g, a)
    p, q = pair_indices(positions, torch.device("cpu"))
    a = a.transpose(0, 1)
    paired = pair_products(g.permute(2, 0, 1)).flatten(0, 1).t() @ (a[p] * a[q]).flatten(0, 1)
    torch.testing.assert_close(paired, formed)


def test_few_positions_are_paired_and_many_are_not() -> None:
    # ResNet-18's third and fourth stage, ViT-tiny's blocks, at ten classes.
    assert pairs_win(256, 256, 4, 9, 64, taps=9, met=25)
    assert pairs_win(192, 192, 1, 9, 32)
    assert not pairs_win(192, 192, 65, 9, 32)


def test_many_passes_do_not_make_pairs_of_many_positions_cheap() -> None:
    # The matrix product is done once, but each of 999 passes adds 2145 pairs.
    assert not pairs_win(192, 192, 65, 999, 8)
    # Nor of a narrow layer, whose gradients are small.
    assert not pairs_win(72, 16, 16, 99, 16)


def test_the_sums_over_pairs_are_bounded() -> None:
    assert pairs_win(512, 512, 4, 9, 64) and not pairs_win(512, 512, 4, 9, 64_000)
