"""Fitted attacks find what is there, and nothing in noise."""

import numpy as np
import pytest

from unlearn_bench.measure.metrics.mia import auc
from unlearn_bench.measure.metrics.mia_fitted import cross_fitted, fitted_attacks

from .conftest import invented


def values(evaluation):
    return {r.metric: r.value for r in fitted_attacks(evaluation)}


def test_an_overfitted_model_is_found_by_every_attack(evaluation):
    found = values(evaluation(unlearned=invented(5, 1.0, fitted=3.0)))
    for attack in ("mia_entropy", "mia_confidence", "mia_features"):
        assert found[f"{attack}_auc"] > 0.7


def test_noise_gives_chance(evaluation):
    aucs = [
        values(evaluation(unlearned=invented(seed, 0.0)))["mia_features_auc"] for seed in range(20)
    ]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.03)


def test_every_example_is_scored_by_an_attacker_that_has_not_seen_it():
    rng = np.random.default_rng(0)
    # Many features, few examples: fitted and scored on the same points this would give 0.8.
    aucs = [
        auc(*cross_fitted(rng.normal(size=(60, 15)), rng.normal(size=(60, 15)), seed))[0]
        for seed in range(10)
    ]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.05)


def test_scores_follow_their_examples():
    rng = np.random.default_rng(0)
    member, other = rng.normal(1, 1, (40, 2)), rng.normal(0, 1, (50, 2))
    order = rng.permutation(40)
    a, b = cross_fitted(member, other, 3)
    moved, same = cross_fitted(member[order], other, 3)
    np.testing.assert_allclose(moved, a[order])
    np.testing.assert_allclose(same, b)


def test_too_few_examples_are_unresolved(evaluation):
    seen = invented(1, 0.0)
    few = seen["forget"]
    few = type(few)("forget", few.logits[:4], few.labels[:4])
    records = fitted_attacks(evaluation(unlearned=type(seen)(seen.outputs | {"forget": few})))
    assert {r.status for r in records} == {"unresolved"}
    assert all("5 examples" in r.reason for r in records)
