"""The permutation test within seeds against listing every labelling, and its error rates."""

from itertools import product

import numpy as np
import pytest

from unlearn_bench.analysis.exchange import exchange, seeds_needed, smallest_p_value

FLOORS = np.full(3, 0.1)


def slow_statistics(values, floors):
    """t_m of every labelling, one at a time, the observed one first."""
    seeds, models, metrics = values.shape
    rows = []
    for who in product(range(models), repeat=seeds):
        d, s = np.zeros(metrics), np.zeros(metrics)
        for seed, u in enumerate(who):
            others = np.delete(values[seed], u, axis=0)
            d += (values[seed, u] - others.mean(0)) / seeds
            s += others.var(0, ddof=1) / seeds
        rows.append(np.maximum(np.abs(d) - floors, 0) / np.maximum(np.sqrt(s), floors))
    return np.array(rows)


def test_p_values_are_those_of_listing_every_labelling():
    values = np.random.default_rng(0).normal(size=(4, 3, 3))
    values[:, 0, 1] += 1.5
    t = slow_statistics(values, FLOORS)
    largest, total = t.max(1), (t**2).sum(1)
    joint = np.maximum(
        (largest - largest.mean()) / largest.std(), (total - total.mean()) / total.std()
    )
    found = exchange(values, FLOORS)
    assert found.p_value == pytest.approx((joint >= joint[0] - 1e-9).mean())
    assert found.alone == pytest.approx((t >= t[0] - 1e-9).mean(0))
    order = np.argsort(-t[0])
    steps = [(t[:, order[i:]].max(1) >= t[0, m] - 1e-9).mean() for i, m in enumerate(order)]
    expected = np.empty(3)
    expected[order] = np.maximum.accumulate(steps)
    assert found.adjusted == pytest.approx(expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: rng.standard_t(3, size=shape),
        lambda rng, shape: np.round(rng.normal(size=shape)),
        lambda rng, shape: rng.normal(size=shape) + 3 * rng.normal(size=(shape[0], 1, 1)),
    ],
    ids=["normal", "heavy tails", "rounded", "effect of the seed"],
)
@pytest.mark.parametrize(("seeds", "models"), [(3, 3), (9, 3), (7, 2), (4, 5)])
def test_exact_unlearning_is_told_apart_in_5_percent_at_most(draw, seeds, models):
    rng = np.random.default_rng(1)
    found = [exchange(draw(rng, (seeds, models, 3)), FLOORS) for _ in range(150)]
    # Three standard errors of 150 draws above 5 %.
    assert np.mean([f.p_value <= 0.05 for f in found]) < 0.05 + 0.053
    assert np.mean([min(f.adjusted) <= 0.05 for f in found]) < 0.05 + 0.053


def test_one_metric_far_off_is_found_and_named():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(100):
        values = rng.normal(size=(16, 3, 7))
        values[:, 0, 4] += 2
        found.append(exchange(values, np.full(7, 0.1)))
    assert np.mean([f.p_value <= 0.05 for f in found]) > 0.95
    named = [tuple(np.flatnonzero(np.array(f.adjusted) <= 0.05)) for f in found]
    assert np.mean([4 in names for names in named]) > 0.95
    assert np.mean([any(n != 4 for n in names) for names in named]) < 0.1


def test_many_metrics_a_little_off_are_found_together():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        values = rng.normal(size=(12, 3, 7))
        values[:, 0] += 0.8
        found.append(exchange(values, np.full(7, 0.1)))
    assert np.mean([f.p_value <= 0.05 for f in found]) > 0.9


def test_a_difference_below_its_floor_never_matters():
    values = np.random.default_rng(4).normal(scale=1e-6, size=(8, 3, 2))
    values[:, 0] += 0.05  # fifty thousand spreads
    assert exchange(values, np.full(2, 0.1)).p_value == 1.0
    assert exchange(values, np.full(2, 0.01)).p_value < 0.01


def test_without_any_spread_a_difference_is_told_and_equality_is_not():
    values = np.zeros((5, 3, 2))
    assert exchange(values, np.zeros(2)).p_value == 1.0
    values[:, 0, 1] = 1.0
    found = exchange(values, np.zeros(2))
    assert found.p_value < 0.01 and found.adjusted[0] == 1.0 and found.adjusted[1] < 0.01


def test_a_metric_that_a_seed_lacks_is_left_out_there():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(6, 3, 2))
    short = values.copy()
    short[4:, 1, 0] = np.nan
    alone = exchange(short, np.zeros(2)).alone
    assert alone[0] == pytest.approx(exchange(values[:4], np.zeros(2)).alone[0])
    assert alone[1] == pytest.approx(exchange(values, np.zeros(2)).alone[1])


def test_more_seeds_than_are_labelled_at_once_give_the_same_kind_of_answer():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(600, 3, 2))
    assert exchange(values, np.zeros(2)).p_value > 0.05
    values[:, 0, 1] += 0.3
    found = exchange(values, np.zeros(2))
    assert found.p_value < 0.01 and found.adjusted[1] < 0.01


def test_how_many_seeds_a_test_needs():
    assert [seeds_needed(models) for models in (2, 3, 4, 5)] == [6, 3, 3, 2]
    assert smallest_p_value(3, 3) == pytest.approx(1 / 27)
    assert smallest_p_value(5, 2) == pytest.approx(2 / 32)
