"""Means, intervals and tests over seeds, against textbook values worked by hand."""

import math

import pytest

from unlearn_bench.analysis.estimate import (
    Estimate,
    Sample,
    estimate,
    estimate_gap,
    paired,
    paired_p_value,
)
from unlearn_bench.analysis.statistics import holm


def test_interval_is_the_hand_worked_t_interval():
    # Mean 2, s = 1, standard error 1/sqrt(3); t(0.975, 2) = 4.30265.
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert (found.low, found.high) == pytest.approx((-0.48414, 4.48414), abs=1e-4)
    assert found.n == 3


def test_single_seed_has_no_interval():
    assert estimate([0.4]) == Estimate(0.4, None, 1)


def test_values_that_are_not_finite_do_not_count():
    assert estimate([1.0, math.nan, math.inf]) == Estimate(1.0, None, 1)
    assert estimate([math.nan]) is None
    assert estimate([]) is None


def test_paired_p_value_is_the_textbook_one():
    # t = mean / standard error = 2 / (1/sqrt(3)) = 3.4641 with 2 degrees: p = 0.07418.
    assert paired_p_value([1.0, 2.0, 3.0]) == pytest.approx(0.07418, abs=1e-5)


def test_differences_without_spread_are_judged_by_their_signs():
    assert paired_p_value([0.0, 0.0]) == 1.0
    assert paired_p_value([2.0, 2.0]) == 0.5
    assert paired_p_value([2.0] * 8) == 2 / 2**8
    assert paired_p_value([2.0]) == 1.0


def test_errors_over_examples_widen_a_paired_difference():
    # s = 1 over seeds, e = 2 over examples: standard error sqrt((1 + 4) / 3), t = 1.549; with two
    # degrees of freedom p = 1 - t / sqrt(t^2 + 2) = 1 - 1.549 / sqrt(4.4).
    change, p_value = paired(Sample([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]))
    assert change.half_width == pytest.approx(4.30265 * math.sqrt(5 / 3), abs=1e-4)
    assert p_value == pytest.approx(0.26145, abs=1e-5)
    exact, alone = paired(Sample([1.0, 2.0, 3.0], [0.0] * 3))
    assert alone == pytest.approx(0.07418, abs=1e-5) and exact == estimate([1.0, 2.0, 3.0])


@pytest.mark.parametrize("values", [[2.0] * 3, [0.1 + 0.2, 0.3, 0.3]])
def test_equal_differences_without_any_error_are_not_taken_for_certain(values):
    change, p_value = paired(Sample(values, [0.0] * 3))
    assert p_value is None and change.half_width is None
    assert paired(Sample([0.0] * 3, [0.0] * 3))[1] == 1.0


def test_holm_steps_down_and_keeps_the_order():
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1 gives 0.03, 0.04, 0.04.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_gap_of_one_seed_has_the_interval_of_its_paired_examples():
    assert estimate_gap([0.3], [0.1]) == Estimate(0.3, pytest.approx(0.195996, abs=1e-6), 1)
    assert estimate_gap([0.3], [math.nan]) == Estimate(0.3, None, 1)
    assert estimate_gap([math.nan], [0.1]) is None


def test_a_gap_of_several_seeds_has_the_errors_of_both():
    gaps, errors = [1.0, 2.0, 3.0, math.nan], [2.0, 2.0, 2.0, 9.0]
    assert estimate_gap(gaps, errors) == paired(Sample(gaps[:3], errors[:3]))[0]
    assert estimate_gap(gaps, [math.nan] * 4) == estimate(gaps)


def test_seeds_that_agree_by_chance_leave_a_gap_the_error_of_its_examples():
    found = estimate_gap([0.1, 0.1], [0.05, 0.05])
    assert found.half_width == pytest.approx(12.7062 * 0.05 / math.sqrt(2), abs=1e-4)
    assert estimate_gap([0.1, 0.1], [0.0, 0.0]).half_width == 0
