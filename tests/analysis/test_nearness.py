"""How near to retraining: margins against a slow count, bounds that hold as often as they say."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from unlearn_bench.analysis.nearness import joint_auc, nearness

SEEDS = 10


def draw(rng, shift=0.0, metrics=1, seeds=SEEDS):
    values = rng.normal(size=(seeds, 3, metrics))
    values[:, 0] += shift
    return values


def test_the_margin_is_the_smallest_at_which_two_one_sided_tests_pass():
    values = draw(np.random.default_rng(0), 0.4)
    away = (values[:, 0] - values[:, 1:].mean(1))[:, 0]
    unit = np.sqrt(values[:, 1:, 0].var(1, ddof=1).mean())
    (found,) = nearness(values, np.zeros(1))

    def passes(margin):
        low = ttest_1samp(away, -margin, alternative="greater").pvalue
        high = ttest_1samp(away, margin, alternative="less").pvalue
        return max(low, high) < 0.05

    assert passes(1.001 * found * unit) and not passes(0.999 * found * unit)


def test_the_margin_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        values = draw(rng, 1.0)
        unit = np.sqrt(values[:, 1:].var(1, ddof=1).mean(0))
        covered.append(nearness(values, np.zeros(1))[0] * unit[0] >= 1.0)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_an_effect_of_the_seed_is_no_spread_of_retraining():
    rng = np.random.default_rng(2)
    values = draw(rng, 0.3)
    moved = values + 50 * rng.normal(size=(SEEDS, 1, 1))
    plain, shifted = (nearness(v, np.zeros(1)) for v in (values, moved))
    assert shifted == pytest.approx(plain)


def test_equal_models_are_at_distance_zero_and_the_floor_is_the_least_unit():
    values = np.zeros((4, 3, 2))
    assert nearness(values, np.array([0.0, 0.1])).tolist() == [0.0, 0.0]
    values[:, 0] = 0.05
    assert nearness(values, np.full(2, 0.1)) == pytest.approx(0.5)


def test_a_metric_that_a_seed_lacks_is_left_out_there():
    values = draw(np.random.default_rng(4), metrics=2)
    short = values.copy()
    short[7:, 2, 0] = np.nan
    found = nearness(short, np.zeros(2))
    assert found[0] == pytest.approx(nearness(values[:7], np.zeros(2))[0])
    assert found[1] == pytest.approx(nearness(values, np.zeros(2))[1])


def test_the_joint_bound_sees_what_no_single_metric_shows():
    rng = np.random.default_rng(5)
    near = [joint_auc(draw(rng, 0.0, 7, 24), np.zeros(7)) for _ in range(25)]
    # Seven metrics one spread off tell one model with AUC 0.97.
    far = [joint_auc(draw(rng, 1.0, 7, 24), np.zeros(7)) for _ in range(25)]
    assert np.median(near) < 0.7 and min(far) > 0.85


def test_the_joint_bound_is_no_lower_than_the_truth_too_often():
    rng = np.random.default_rng(6)
    bounds = [joint_auc(draw(rng, 1.0, 1, 16), np.zeros(1)) for _ in range(150)]
    assert np.mean(np.array(bounds) < 0.76) < 0.1  # one spread apart: Phi(1 / sqrt 2) = 0.76


def test_the_joint_bound_of_nothing_but_missing_numbers_is_no_praise():
    assert joint_auc(np.full((5, 3, 2), np.nan), np.zeros(2)) == 1.0
