"""The audit's tests against numbers worked out by hand, and how often they err."""

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from unlearn_bench.audit import exposure
from unlearn_bench.audit.exposure import Share


def test_members_above_all_but_the_allowed_non_members_are_found() -> None:
    other = np.arange(200, dtype=float)  # two may lie above: the threshold is 197
    found = exposure.membership(np.array([197.0, 197.5, 500.0, -3.0]), other)
    assert (found.found.count, found.found.of) == (2, 4)
    assert found.flagged == (False, True, True, False)
    assert found.p_value < 0.01


def test_the_p_value_is_that_of_drawing_the_order_at_random() -> None:
    # Of one member among 100 non-members, one above allowed: it is among the first two of 101.
    other = np.arange(100, dtype=float)
    assert exposure.membership(np.array([98.5]), other).p_value == pytest.approx(2 / 101)
    assert exposure.membership(np.array([1.5]), other).p_value == pytest.approx(1.0)


def test_what_was_never_seen_is_rarely_called_exposed() -> None:
    draw = np.random.default_rng(0)
    p_values = [
        exposure.membership(draw.standard_normal(150), draw.standard_normal(300)).p_value
        for _ in range(2000)
    ]
    # Exact for any scores, so at most 5 % beyond what 2,000 draws scatter by.
    assert np.mean(np.array(p_values) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_the_smallest_effect_is_found_with_the_power_it_is_named_with() -> None:
    members, others, level = 200, 500, 0.05
    effect = exposure.smallest_effect(members, others, level)
    assert effect is not None
    draw = np.random.default_rng(1)
    least = exposure.least_found(members, others, level)
    power = np.mean(draw.binomial(members, effect, 20_000) >= least)
    assert power == pytest.approx(0.8, abs=0.02)
    assert exposure.smallest_effect(1, 100, 0.001) is None


def test_an_interval_is_clopper_and_pearsons() -> None:
    low, high = Share(0, 10).interval
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))


def test_recognition_is_compared_with_the_reference_that_names_most() -> None:
    found = exposure.recognition(Share(4, 10), Share(1, 10))
    assert found.p_value == pytest.approx(float(hypergeom.sf(3, 20, 5, 10)))


def test_non_members_have_the_classes_of_the_members_and_are_as_many_as_there_are() -> None:
    forgotten = torch.tensor([0, 0, 0, 1])
    test_labels = torch.tensor([0] * 70 + [1] * 30 + [2] * 50)
    chosen = exposure.matched(forgotten, test_labels, seed=0)
    # Class 0 gives out first: 70 / 3 times the histogram.
    assert test_labels[chosen].bincount().tolist() == [70, 23]
    assert torch.equal(chosen, exposure.matched(forgotten, test_labels, seed=0))
