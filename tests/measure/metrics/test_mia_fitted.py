"""Fitted attacks find what is there, and nothing in noise."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unlearn_bench.measure.metrics import crossfit
from unlearn_bench.measure.metrics.crossfit import cross_fitted
from unlearn_bench.measure.metrics.mia import auc
from unlearn_bench.measure.metrics.mia_fitted import fitted_attacks

from .conftest import invented


def values(evaluation):
    return {r.metric: r.value for r in fitted_attacks(evaluation)}


def test_an_overfitted_model_is_found_by_every_attack(evaluation):
    found = values(evaluation(unlearned=invented(5, 1.0, fitted=3.0)))
    for attack in ("mia_entropy", "mia_confidence", "mia_features"):
        assert found[f"{attack}_auc"] > 0.7


def test_noise_gives_chance(evaluation):
    aucs = [
        values(evaluation(unlearned=invented(seed, 0.0)))["mia_features_auc"] for seed in range(10)
    ]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.04)


def test_every_example_is_scored_by_an_attacker_that_has_not_seen_it():
    rng = np.random.default_rng(0)
    # Many features, few examples: fitted and scored on the same points this would give 0.8.
    aucs = [
        auc(*(s[0] for s in cross_fitted(*rng.normal(size=(2, 60, 15)), [seed])))[0]
        for seed in range(10)
    ]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.05)


def test_scores_follow_their_examples():
    rng = np.random.default_rng(0)
    member, other = rng.normal(1, 1, (40, 2)), rng.normal(0, 1, (50, 2))
    order = rng.permutation(40)
    a, b = cross_fitted(member, other, [3, 4])
    moved, same = cross_fitted(member[order], other, [3, 4])
    np.testing.assert_array_equal(moved, a[:, order])
    np.testing.assert_array_equal(same, b)


def test_too_few_examples_are_unresolved(evaluation):
    seen = invented(1, 0.0)
    few = seen["forget"]
    few = type(few)("forget", few.logits[:4], few.labels[:4])
    records = fitted_attacks(evaluation(unlearned=type(seen)(seen.outputs | {"forget": few})))
    assert {r.status for r in records} == {"unresolved"}
    assert all("5 examples" in r.reason for r in records)


def test_a_fit_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    rows = rng.normal([0, 5, -2], [1, 100, 1e-3], (90, 3))
    target = np.repeat([1, 0], [60, 30])
    rows[:60, 0] += 1.5
    fitted = rng.random((4, 90)) < 0.8
    scores = crossfit.logistic(rows, target, fitted)
    for chosen, found in zip(fitted, scores, strict=True):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=1000)
        )
        model.fit(rows[chosen], target[chosen])
        np.testing.assert_allclose(found, model.decision_function(rows), rtol=1e-4, atol=1e-5)


def test_sides_that_are_separable_have_finite_scores():
    target = np.repeat([1, 0], 20)
    rows = np.where(target, 1e6, -1e6)[:, None] + np.linspace(0, 1, 40)[:, None]
    scores = crossfit.logistic(rows, target, np.ones((1, 40), dtype=bool))[0]
    assert np.isfinite(scores).all() and scores[:20].min() > scores[20:].max()


def test_many_examples_are_fitted_in_parts_to_the_same_scores(monkeypatch):
    rng = np.random.default_rng(0)
    member, other = rng.normal(1, 1, (30, 2)), rng.normal(0, 1, (20, 2))
    whole = crossfit.cross_fitted(member, other, [1, 2, 3])
    monkeypatch.setattr(crossfit, "_MOST", 1)
    for a, b in zip(whole, crossfit.cross_fitted(member, other, [1, 2, 3]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_the_mean_over_divisions_moves_less_than_one_division():
    rng = np.random.default_rng(3)
    member, other = rng.normal(0.3, 1, (60, 2)), rng.normal(0, 1, (35, 2))
    one = [
        auc(*pair)[0]
        for pair in zip(*crossfit.cross_fitted(member, other, list(range(40))), strict=True)
    ]
    many = [
        crossfit.repeated_attack("mia_features", member, other, seed)[0].value for seed in range(12)
    ]
    assert np.std(many) < 0.6 * np.std(one)


def test_the_spread_over_divisions_widens_the_interval():
    found = np.array([0.5, 0.6, 0.4, 0.5])
    value, low, high = crossfit._widened(found, 0.5, 0.4, 0.6)
    over = 1.959964 * found.std(ddof=1) / 2
    assert value == 0.5 and high - 0.5 == pytest.approx(np.hypot(0.1, over))
    assert 0.5 - low == pytest.approx(high - 0.5)
    assert crossfit._widened(np.full(4, 0.5), 0.5, 0.4, 0.6) == pytest.approx((0.5, 0.4, 0.6))
