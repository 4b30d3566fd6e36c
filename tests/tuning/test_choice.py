"""The cheapest setting among the best, and how it is compared with the default."""

from typing import Any

import pytest

from unlearn_bench.tuning.choice import WORST, Trial, check, choose, values


def trial(number: int, *gaps: float | None, cost: float = 1.0, **more: Any) -> Trial:
    return Trial(number, {"n": number}, gaps, seconds=1.0, cost=cost, **more)


def test_the_best_mean_is_taken() -> None:
    assert choose([trial(0, 5.0, 5.0), trial(1, 3.0, 3.0), trial(2, 4.0, 4.0)]).number == 1


def test_within_one_standard_error_the_cheapest_is_taken() -> None:
    # Of 2 and 4 the mean is 3 and its standard error 1.
    best, near, far = trial(1, 2.0, 4.0, cost=9), trial(2, 3.9, 3.9, cost=2), trial(3, 4.1, 4.1)
    assert choose([trial(0, 8.0, 8.0, cost=1), best, near, far]).number == 2


def test_equally_cheap_ones_are_told_apart_by_gap_and_then_by_order() -> None:
    assert choose([trial(1, 2.0, 4.0), trial(2, 3.5, 3.5)]).number == 1
    assert choose([trial(2, 3.0, 3.0), trial(1, 3.0, 3.0)]).number == 1


def test_nothing_is_taken_that_came_out_worse_than_the_default() -> None:
    default, cheaper = trial(0, 2.0, 4.0, cost=9), trial(1, 3.5, 3.5, cost=1)
    assert choose([default, cheaper]).number == 0


def test_a_trial_in_which_a_run_failed_is_never_taken() -> None:
    assert choose([trial(0, 5.0, 5.0), trial(1, 0.0, None, reason="no")]).number == 0
    assert choose([trial(0, None), trial(1, None)]) is None


def test_a_failed_trial_counts_as_the_worst_seen() -> None:
    assert values([trial(0, 5.0), trial(1, None), trial(2, 7.0)]) == [5.0, 7.0, 7.0]
    assert values([trial(0, None)]) == [WORST]


def test_the_noise_check_is_paired_by_surrogate() -> None:
    found = check([5.0, 9.0], [4.0, 7.0])
    assert (found.default, found.tuned, found.difference) == (7.0, 5.5, -1.5)
    # Half-width of two differences, -1 and -2: t(0.975, 1) times their standard error 0.5.
    assert found.low == pytest.approx(-1.5 - 12.706 * 0.5, abs=1e-3)
    assert found.high == pytest.approx(-1.5 + 12.706 * 0.5, abs=1e-3)


def test_a_check_that_failed_in_part_gives_what_it_can() -> None:
    one = check([5.0, None], [4.0, 7.0])
    assert (one.default, one.tuned, one.difference, one.low) == (None, 5.5, -1.0, None)
    assert check([None], [None]).difference is None
